"""The container image that components run in: one environment variable, read when a pipeline is compiled."""

import os
import re

from sidlsg import __version__
from sidlsg.runtime.errors import InputError

VARIABLE = "SIDLSG_IMAGE"
LOCAL_IMAGE = f"sidlsg-python:{__version__}"
"""The name without the variable: enough for a run on this machine, which starts no container."""


def image() -> str:
    """The image to compile into a pipeline.

    A cached result is keyed by the image's name, so the name must say which content it means: a tag can move.

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
