"""What families of teachers have of their own; a module each, found by its pipeline or its network."""

from __future__ import annotations

from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.teacher.families.family import Family
from sidlsg.teacher.families.flux import FLUX
from sidlsg.teacher.families.sana import SANA
from sidlsg.teacher.families.sd import SD
from sidlsg.teacher.families.sd3 import SD3
from sidlsg.teacher.families.sdxl import SDXL

FAMILIES = (SD, SDXL, SD3, SANA, FLUX)
PIPELINES = {family.pipeline: family for family in FAMILIES}
"""The families by their stock pipelines."""


def family_of(network: Any) -> Family:
    """The family of a network.

    Raises:
        InputError: it is of none.
    """
    for family in FAMILIES:
        if family.has(network):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise InputError(f"a {type(network).__name__} is of no family that is known; the families are: {known}")
