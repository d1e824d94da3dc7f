"""The distil component."""
