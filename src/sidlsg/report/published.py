"""What others published for the recipes, in the columns that were measured under the same protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sidlsg.distil.recipes import Published, Recipe
from sidlsg.report.columns import Column, Reading
from sidlsg.report.contenders import Contender

IMAGES = 30_000
"""What both protocols are computed on."""
CLIP = "clip/vit-g-14-photo-depicts"
"""The protocol of every published `clip`."""


def published_contenders(columns: Sequence[Column], recipes: Iterable[Recipe]) -> list[Contender]:
    """The published results that have a column to stand in; none where no protocol is theirs.

    Args:
        columns: those that were measured.
        recipes: with their published results.
    """
    rows = []
    for recipe in recipes:
        for result in recipe.published:
            readings = _readings(columns, result)
            if readings:
                seen = f"{result.images_seen / 1e6:g} M"
                note = f"published, {seen} images seen"
                name = f"{recipe.name}, {seen}" if len(recipe.published) > 1 else recipe.name
                rows.append(Contender(name=name, note=note, kind="published", readings=readings))
    return rows


def published_sources(recipes: Iterable[Recipe]) -> tuple[str, ...]:
    """Where the results are from."""
    return tuple(dict.fromkeys(result.source for recipe in recipes for result in recipe.published))


def _readings(columns: Sequence[Column], result: Published) -> dict[Column, Reading]:
    readings = {}
    for name, protocol, value, decimals in (
        ("fid", result.protocol, result.fid, 2),
        ("clip", CLIP, result.clip, 3),
    ):
        theirs = [column for column in columns if (column.name, column.protocol, column.n) == (name, protocol, IMAGES)]
        # Of several references, which one was theirs is not known.
        if len(theirs) == 1:
            readings[theirs[0]] = Reading(value=value, decimals=decimals)
    return readings
