"""The curate_finish component."""
