"""A pretrained Stable Diffusion in a diffusers folder: checked, loaded, sampled, and its text embeddings."""

NUMERICS = "4b53784c13c65d3a336d2864eb9d31c8b8cc3739e1320db15f7bddbd99d0ea13"
"""Version of the text embeddings that `encode` writes: an unfinished set is resumed by the same version only.

Raise it by hand when the same prompts and teacher give other embeddings, or when shards get another form. This first
version is the digest of the code in unfinished sets of before; the next one is "2".
"""
