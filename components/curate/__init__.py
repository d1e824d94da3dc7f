"""The curate component."""
