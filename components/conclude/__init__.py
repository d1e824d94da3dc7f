"""The conclude component."""
