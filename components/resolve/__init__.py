"""The encode component."""
