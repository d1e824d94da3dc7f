"""The find component."""
