"""Scores of generated images, each under a named protocol."""
