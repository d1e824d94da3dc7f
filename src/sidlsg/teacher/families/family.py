"""The interface of a family."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the engine has to know of a family's network."""

    name: str
    has: Callable[[Any], bool]
    """Whether a network is of the family."""
    takes: Callable[[Callable[..., Any]], Callable[..., Any]]
    """Makes f(x_t, t, conditioning) of a network, or of what runs it; the result's `sample` is the output."""
    compiled: tuple[type[nn.Module], ...]
    """Kinds of the repeated parts, each small enough for a short compilation that all its copies share."""
    sharded: Callable[[Any], Iterable[nn.Module]]
    """The blocks that FSDP shards, of which one is whole at a time."""
    features: Callable[[Any], nn.Module | None]
    """The part whose output has the discriminator's logits as its mean over dimension 1; None where it is missing."""
    last: Callable[[Any], nn.Linear | nn.Conv2d]
    """The last layer with weights."""
