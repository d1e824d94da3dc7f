"""The curate_plan component."""
