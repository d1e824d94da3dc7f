"""The networks of the published protocols, each from its user's own file, as measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sidlsg.evaluate import NUMERICS
from sidlsg.evaluate.clip_networks import ClipCosine, PreferenceScore
from sidlsg.evaluate.inception import WIDTH, InceptionFeatures
from sidlsg.evaluate.published import Protocol
from sidlsg.evaluate.suite import Pictures

BATCH = 32
"""Pictures that go through a network at once."""


class NetworkMeasure:
    """A network of a published protocol, as a measure."""

    def __init__(
        self, protocol: Protocol, network: Callable[[Pictures, Sequence[str]], Tensor], sha256: str, width: int
    ) -> None:
        """Args:
        protocol: whose network and way of reading it is.
        network: pictures and prompts to [N, width].
        sha256: of the network's file.
        width: how many numbers a picture gives.
        """
        self.name = protocol.space.replace("/", "-")
        self.identity = f"{protocol.space} {NUMERICS[protocol.space]} {sha256}"
        self.width, self.sha256 = width, sha256
        self._network = network

    def __call__(self, pictures: Pictures, prompts: Sequence[str]) -> Tensor:
        """See `Measure`; pictures may be of unlike sizes."""
        starts = range(0, len(pictures), BATCH)
        return torch.cat([self._network(pictures[at : at + BATCH], prompts[at : at + BATCH]) for at in starts])


def load_network(protocol: Protocol, sha256: str, path: Path, device: torch.device) -> NetworkMeasure:
    """Load the network of a protocol from its file, whose digest was checked to be `sha256`.

    Raises:
        InputError: the file is another network's, or a library is missing.
    """
    if protocol.resize is not None:
        return NetworkMeasure(protocol, InceptionFeatures(path, protocol.resize, device), sha256, WIDTH)
    kind = ClipCosine if protocol.formula == "cosine" else PreferenceScore
    return NetworkMeasure(protocol, kind(path, device), sha256, 1)
