"""The student as others use it: a diffusers folder, its card, and pictures from it."""
