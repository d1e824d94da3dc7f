"""Tokens of a prompt with words put before it, as the published CLIP scores have them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sidlsg.runtime.errors import InputError

PREFIX = "A photo depicts "


def insert_prefix(tokens: Tensor, prefix: Sequence[int], end: int) -> Tensor:
    """Put a prefix's tokens after the start token, and cut to the length that there was.

    Where the end token falls off, the last position becomes one: the text is read up to there.

    Args:
        tokens: [N, L] long; each row is a start token, the text's, an end token, and padding.
        prefix: tokens of the words to insert, without start and end.
        end: the end token.

    Returns:
        [N, L] long.

    Raises:
        InputError: the prefix leaves no room for a text, or a row has no end token.
    """
    length = tokens.shape[1]
    if len(prefix) + 2 > length:
        raise InputError(f"a prefix of {len(prefix)} tokens does not fit into {length} with start and end")
    if not bool((tokens == end).any(1).all()):
        raise InputError(f"tokens without an end token ({end}) given; tokenize with start, end and truncation")
    words = torch.tensor(list(prefix), dtype=tokens.dtype, device=tokens.device).expand(len(tokens), -1)
    longer = torch.cat([tokens[:, :1], words, tokens[:, 1:]], 1)[:, :length]
    cut = ~(longer == end).any(1)
    longer[cut, -1] = end
    return longer
