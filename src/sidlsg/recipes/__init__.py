"""Recipes by name: values only, with published results beside them."""

from sidlsg.recipes.recipe import Recipe, get_recipe

__all__ = ["Recipe", "get_recipe"]
