"""The distil_nodes component."""
