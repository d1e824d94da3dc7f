"""The resolve component."""
