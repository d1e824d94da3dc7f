"""The curate_part component."""
