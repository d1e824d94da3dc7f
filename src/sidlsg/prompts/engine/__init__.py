"""Engines: where the tasks of curation run."""
