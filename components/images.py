"""The components' container image, from an environment variable that is read when a pipeline is compiled."""

import os
import re

from sidlsg import __version__
from sidlsg.runtime.errors import InputError

VARIABLE = "SIDLSG_IMAGE"
LOCAL_IMAGE = f"sidlsg-python:{__version__}"
"""Used without the variable; sufficient for local runs, which start no containers."""


def image() -> str:
    """The image to compile into a pipeline.

    The cache key of a result includes the image's name, so the name must identify its content; a tag can move.

    Raises:
        InputError: the variable holds a tag instead of a digest.
    """
    given = os.environ.get(VARIABLE, "")
    if not given:
        return LOCAL_IMAGE
    if not re.fullmatch(r"(\S+@)?sha256:[0-9a-f]{64}", given):
        raise InputError(
            f"{VARIABLE} is {given!r}, and a tag can move; give the image by digest: NAME@sha256:<64 hex digits>"
        )
    return given


IMAGE = image()
