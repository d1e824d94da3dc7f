"""The adversarial term of SiDA (arXiv 2410.14919): the fake score's mid block tells real images from the student's.

Recipes read its weights where no network runs, so torch is imported by the functions that need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sidlsg.runtime.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sidlsg.distil.sampler import Draws
    from sidlsg.teacher.conditioning import Conditioning
    from sidlsg.teacher.embeddings import TextEmbeddings

LOGIT_LIMIT = 10.0
"""Logits are clamped to ± this in both losses."""


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Weights and schedule of the adversarial term."""

    lambda_d: float
    """λ_D: the discriminator's part of the fake score's loss, L_ψ + λ_D · CHW · ℓ_D."""
    lambda_g: float
    """λ: the adversarial part of the generator's loss, ½ L_SiD + ½ λ · CHW · w · ℓ_G."""
    freeze: float = 0
    """Images for which the generator is frozen while the discriminator learns."""
    join: float = 0
    """Images after which the adversarial term joins the generator's loss; before, L_SiD counts whole."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise InputError(f"adversarial.{each.name} is {value!r}; give a finite number, 0 or more")
        if not self.lambda_d:
            raise InputError("adversarial.lambda_d is 0, so that nothing trains the discriminator; give more")
        if self.join < self.freeze:
            raise InputError(
                f"adversarial.join is {self.join:g} images and freeze {self.freeze:g}; the term joins when the "
                "generator is trained, so give join = freeze or more"
            )


def make_adversarial(values: dict[str, float]) -> Adversarial | None:
    """The term of a recipe's `adversarial`; None for an empty one.

    Raises:
        InputError: a value is unknown, missing or out of range.
    """
    names = [each.name for each in fields(Adversarial)]
    for name in values:
        if name not in names:
            raise InputError(f"adversarial has no value {name!r}; it has: {', '.join(names)}")
    if values and not {"lambda_d", "lambda_g"} <= values.keys():
        raise InputError('adversarial needs lambda_d and lambda_g, such as {"lambda_d": 1, "lambda_g": 0.01}')
    return Adversarial(**values) if values else None


def logit_map(features: Tensor) -> Tensor:
    """D: the mean over dimension 1 of a feature block's output, in float32 (float64 stays).

    That is over a UNet's channels, [B, C, h, w] to [B, h, w], or a transformer's tokens, [B, N, D] to [B, D].
    """
    return (features if features.itemsize >= 4 else features.float()).mean(1)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """ℓ_D = ½ [mean_hw softplus(-D(x_r, t)) + mean_hw softplus(D(x_g, t))] a sample, [B]; logits: [B, h, w]."""
    return (_softplus(-real) + _softplus(fake)) / 2


def generator_adversarial_loss(fake: Tensor) -> Tensor:
    """ℓ_G = mean_hw softplus(-D(x_g, t)) of each sample: [B], from logits [B, h, w]."""
    return _softplus(-fake)


def _softplus(logits: Tensor) -> Tensor:
    import torch

    return torch.nn.functional.softplus(logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)).flatten(1).mean(1)


def discriminator_diagnostics(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Means of ℓ_D and both sides' logits, the shares of samples on the right side, and of logits at the clamp."""
    import torch

    with torch.no_grad():
        both = torch.cat([real, fake])
        return {
            "discriminator_loss": discriminator_loss(real, fake).mean(),
            "real_logit": real.mean(),
            "fake_logit": fake.mean(),
            "real_accuracy": (real.flatten(1).mean(1) > 0).double().mean(),
            "fake_accuracy": (fake.flatten(1).mean(1) < 0).double().mean(),
            "logits_saturated": (both.abs() >= LOGIT_LIMIT).double().mean(),
        }


@dataclass(frozen=True)
class RealBatch:
    """Real images of a micro-batch, each for the sample of the same index."""

    latents: Tensor
    """[B, C, H, W]: x_r."""
    cond: Conditioning
    """[B, L, D]: their own captions, encoded."""


@dataclass(frozen=True, kw_only=True)
class RealImages:
    """Real images by index."""

    count: int
    latents: Callable[[Sequence[int]], Tensor]
    """[B, C, H, W]."""
    encode: TextEmbeddings
    """Their captions' text embeddings."""


def feature_block_of(network: Any) -> nn.Module:
    """The part of a network whose output has the discriminator's logits as its mean, such as a UNet's mid block.

    Raises:
        InputError: it has none.
    """
    from sidlsg.teacher.families import family_of

    block = family_of(network).features(network)
    if block is None:
        raise InputError("the teacher's network has no block whose output the adversarial term needs; train without")
    return block


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """The term with what it is computed from."""

    term: Adversarial
    feature_block: nn.Module
    """The fake score's; see `feature_block_of`."""
    images: RealImages

    def batch(self, draws: Draws) -> RealBatch | None:
        """The real images that were drawn; where the empty prompt replaces a sample's, so it does their captions."""
        if not draws.real:
            return None
        latents = self.images.latents(draws.real).to(draws.z)
        return RealBatch(latents, self.images.encode(draws.real, draws.replaced)[0])

    @contextmanager
    def features(self) -> Iterator[list[Tensor]]:
        """The feature block's outputs in the fake score's forward passes meanwhile: no pass of its own is needed.

        Activation checkpointing, compilation and FSDP work on what is inside the block, or on all of it, and DDP calls
        it as it is.
        """
        found: list[Tensor] = []

        def keep(_module: Any, _arguments: Any, output: Tensor) -> None:
            found.append(output)

        handle = self.feature_block.register_forward_hook(keep)
        try:
            yield found
        finally:
            handle.remove()

    def is_frozen(self, images_seen: int) -> bool:
        """Whether the generator stays as it is in the iteration after so many images."""
        return images_seen < self.term.freeze

    def has_joined(self, images_seen: int) -> bool:
        """Whether the adversarial term is part of the generator's loss in the iteration after so many images."""
        return images_seen >= self.term.join
