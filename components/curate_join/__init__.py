"""The curate_join component."""
