"""Real images with captions, read from folders, tables or tars, and encoded once into latents for training."""

NUMERICS = "1"
"""Version of the latents: an unfinished set is resumed by the same version only.

Raise it by hand when the same images, captions and teacher give other latents, or when shards get another form.
"""
