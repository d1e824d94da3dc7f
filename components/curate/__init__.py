"""Shim."""
