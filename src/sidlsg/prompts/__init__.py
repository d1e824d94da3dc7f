"""Prompts: a table of web captions in, a clean, stable and decontaminated set out."""

NUMERICS = "312b70479b6a424e91e4ec0d33ecf9fab8e17e7b2e850fc9f823eb1274587c97"
"""Version of what a curation makes: half-done work is continued by the same version only.

Raise it by hand when the same files and rules give another prompt set, or when tasks leave other files in the work
folder. This first version is the digest of the code that half-done work of before carries; the next one is "2".
"""
