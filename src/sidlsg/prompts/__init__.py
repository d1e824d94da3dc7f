"""Prompts: a table of web captions in, a clean, stable and decontaminated set out."""
