"""The published protocols as rows of a table: how many pictures, which network, after which resizing, which formula."""

from __future__ import annotations

from dataclasses import dataclass

from sidlsg.errors import InputError, nearest
from sidlsg.evaluate.inception import Resize
from sidlsg.evaluate.weights import INCEPTION


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that two numbers must share to be compared, but for the reference itself."""

    name: str
    about: str
    scores: tuple[str, ...]
    """The names of its scores."""
    resize: Resize
    network: str = INCEPTION
    """A name in `sidlsg.evaluate.weights.WEIGHTS`."""
    images: int | None = None
    """How many are generated; None where the name does not say, and the score does."""
    references: int | None = None
    """How many pictures the reference has; None likewise."""
    ddof: int = 1
    """A Fréchet distance's covariances are divided by the count less this."""

    @property
    def space(self) -> str:
        """Names the features: those of another space do not compare."""
        return f"{self.network}/{self.resize}"


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="fid/coco2014-30k-clean",
            about="Fréchet distance to COCO's val2014, as the papers' tables have it: antialiased resizing",
            scores=("fid",),
            resize="clean",
            images=30_000,
            references=40_504,
        ),
        Protocol(
            name="fid/coco2014-30k-sid-train",
            about="the same as SiD's training code measures it: the network's own resizing, covariances by the count",
            scores=("fid",),
            resize="inside",
            images=30_000,
            references=40_504,
            ddof=0,
        ),
        Protocol(
            name="kid/inception-poly3",
            about="kernel distance, cubic: mean of 100 subsets of 1,000",
            scores=("kid",),
            resize="clean",
        ),
        Protocol(
            name="pr/inception-k3",
            about="precision and recall by manifolds of 3 nearest neighbours",
            scores=("precision", "recall"),
            resize="clean",
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    if name not in PROTOCOLS:
        raise InputError(f"protocol {name!r} is unknown{nearest(name, PROTOCOLS)}; allowed: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
