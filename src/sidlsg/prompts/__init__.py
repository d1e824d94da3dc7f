"""Prompts: a table of web captions in, a clean, stable and decontaminated set out."""

NUMERICS = "2"
"""Version of what a curation makes: half-done work is continued by the same version only.

Raise it by hand when the same files and rules give another prompt set, or when tasks leave other files in the work
folder.
"""
