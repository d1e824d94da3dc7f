"""Which attributes of a scene's image are as its caption says."""

from __future__ import annotations

import torch
from torch import Tensor

from sidlsg.bundled.scenes.captions import ATTRIBUTES

_NAMES = list(ATTRIBUTES)
_AXIS = _NAMES.index("relation")
_FIRST = [_NAMES.index(f"first_{what}") for what in ("size", "colour", "shape")]
_SECOND = [_NAMES.index(f"second_{what}") for what in ("size", "colour", "shape")]


def right(read: Tensor, wanted: Tensor) -> Tensor:
    """Two [N, 8] of labels, read from images and of their captions, to [N, 8] bool.

    Figures that changed places are a wrong relation, not six wrong attributes: the figures are matched in the way in
    which more of their attributes agree, and the relation is right if axis and order are.
    """
    straight = read == wanted
    exchanged = read.clone()
    exchanged[:, _FIRST + _SECOND] = read[:, _SECOND + _FIRST]
    other = exchanged == wanted
    other[:, _AXIS] = False
    changed = other[:, _FIRST + _SECOND].sum(1) > straight[:, _FIRST + _SECOND].sum(1)
    return torch.where(changed[:, None], other, straight)
