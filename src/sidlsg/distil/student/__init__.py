"""The finished student: a diffusers folder, its card, and images generated with it."""
