"""The two losses of SiD-LSG (arXiv 2406.01561): the formulas, the forward passes of each update, and diagnostics.

With real images, the adversarial term of `adversarial` is added to both.

Shapes, here as in the paper's symbols: x_g, y_real, y_fake, output, target: [B, C, H, W]; weight, mask: [B].
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sidlsg.distil.adversarial import (
    Adversary,
    RealBatch,
    discriminator_diagnostics,
    discriminator_loss,
    generator_adversarial_loss,
    logit_map,
)
from sidlsg.distil.few_steps import ONE_STEP, FewSteps
from sidlsg.distil.guidance import Guidance, combine, guidance_pair, guided_output
from sidlsg.distil.sampler import Draws, Update, generate_latents
from sidlsg.distil.weighting import OF_SIGMA, OMEGA
from sidlsg.teacher.conditioning import Conditioning, expanded, joined
from sidlsg.teacher.schedule import Schedule

OMEGA_MINIMUM = 1e-5


def fake_score_loss(
    output: Tensor, target: Tensor, weight: Tensor, mask: Tensor | None = None, divisor: int | None = None
) -> Tensor:
    """The fake score's loss: L_ψ = (1/B) Σ_b w_t Σ_i (f̂_ψ,κ1(x_t)_i - target_i)², a scalar.

    Args:
        output: guided output of the fake score, on the raw output scale.
        target: what it should be: ε, or v = a_t ε - s_t x_g.
        weight: w_t: 1, or snr/(snr + 1).
        mask: samples with False leave the sum.
        divisor: divides the sum; default B.
    """
    each = weight * (output - target).square().flatten(1).sum(1)
    return masked_sum(each, mask) / (divisor or len(output))


def generator_loss(
    x_g: Tensor,
    y_real: Tensor,
    y_fake: Tensor,
    alpha: float = 1.0,
    y_fake_kappa3: Tensor | None = None,
    mask: Tensor | None = None,
    divisor: int | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The generator's loss: L_θ = (1/B) Σ_b w_b Σ_i (y_real - y_fake)(y_real - x_g - α (y_real - y_fake)), a scalar.

    At α = 1, that is (y_real - y_fake)(y_fake - x_g). Where κ2 and κ3 differ, the first factor takes `y_fake` (κ2),
    and the whole second factor `y_fake_kappa3`. Gradient flows through x_g, y_real and both fake predictions.

    Args:
        x_g: the generator's sample.
        y_real: the teacher's x0-prediction.
        y_fake: the fake score's x0-prediction at κ2.
        alpha: α.
        y_fake_kappa3: the fake score's x0-prediction at κ3; default `y_fake`.
        mask: samples with False leave the sum.
        divisor: divides the sum; default B.
        weight: w_b; default 1/ω_b.
    """
    second = y_fake if y_fake_kappa3 is None else y_fake_kappa3
    product = (y_real - y_fake) * (y_real - x_g - alpha * (y_real - second))
    return masked_sum(_weighted(product.flatten(1).sum(1), weight, x_g, y_real), mask) / (divisor or len(x_g))


def _weighted(each: Tensor, weight: Tensor | None, x_g: Tensor, y_real: Tensor) -> Tensor:
    return each / omega(x_g, y_real) if weight is None else each * weight.to(each.dtype)


def omega(x_g: Tensor, y_real: Tensor) -> Tensor:
    """ω_b of each sample, [B]: the mean over C, H, W of |x_g - y_real|, without gradient and at least 1e-5."""
    return (x_g - y_real).detach().abs().flatten(1).mean(1).clamp_min(OMEGA_MINIMUM)


def masked_sum(each: Tensor, mask: Tensor | None) -> Tensor:
    """The sum of [B] values, without those whose mask is False."""
    # `where`, not a product: 0 · NaN is NaN.
    return each.sum() if mask is None else torch.where(mask, each, torch.zeros_like(each)).sum()


@dataclass
class MicroBatchLoss:
    """The loss of one micro-batch, and what came with it."""

    loss: Tensor
    """Scalar, at the global batch's divisor."""
    finite: Tensor
    """[B] bool: samples that are finite in every tensor of the loss."""
    diagnostics: dict[str, Tensor]
    """Scalars that alarms check."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """The fixed parts of the method, and the loss of each update."""

    teacher: Any
    """The frozen network f_φ, or a callable that runs it."""
    schedule: Schedule
    guidance: Guidance
    alpha: float = 1.0
    steps: FewSteps = ONE_STEP
    """The student's."""
    adversary: Adversary | None = None
    """The adversarial term, where real images are used."""
    generator_weight: str = OMEGA
    """A name in `GENERATOR_WEIGHTS`."""

    def loss(
        self,
        update: Update,
        generator: Any,
        fake_score: Any,
        draws: Draws,
        cond: Conditioning,
        uncond: Conditioning,
        divisor: int,
        mask: Tensor | None = None,
        real: RealBatch | None = None,
        joined: bool = False,
    ) -> MicroBatchLoss:
        """The loss of one micro-batch; without `mask`, its finite samples are what counts.

        Args:
            update: whose loss.
            generator: G.
            fake_score: f_ψ.
            draws: the random part.
            cond: [B, L, D] encoded prompts.
            uncond: [1, L, D], the empty prompt.
            divisor: the global batch.
            mask: [B] bool: the samples that count.
            real: real images, for the discriminator's part of the fake score's loss.
            joined: whether the adversarial term is part of the generator's loss.
        """
        networks = generator, fake_score, draws, cond, uncond
        if update == "fake_score":
            return self._fake_score_loss(*networks, divisor, mask, real)
        adversary = self.adversary if joined else None
        with _features_of(adversary) as features:
            forward = self.generator_forward(*networks)
        x_g, y_real, y_fake, y_fake_kappa3 = forward
        d_fake = logit_map(features[-1][: len(x_g)]) if adversary else None
        finite = finite_samples(*(y for y in (*forward, d_fake) if y is not None))
        counted = finite if mask is None else mask
        weight = self._generator_weight(draws.t)
        loss = generator_loss(x_g, y_real, y_fake, self.alpha, y_fake_kappa3, counted, divisor, weight)
        diagnostics = generator_diagnostics(x_g, y_real, y_fake)
        if adversary and d_fake is not None:
            # L_θ = ½ L_SiD + ½ λ · CHW · w · ℓ_G, with w, the weight that a sample has in L_SiD.
            l_g = generator_adversarial_loss(d_fake)
            weighted = masked_sum(_weighted(l_g, weight, x_g, y_real), counted) / divisor
            loss = loss / 2 + adversary.term.lambda_g * x_g[0].numel() * weighted / 2
            diagnostics["adversarial_loss"] = l_g.detach().mean()
        return MicroBatchLoss(loss, finite, diagnostics)

    def _fake_score_loss(
        self,
        generator: Any,
        fake_score: Any,
        draws: Draws,
        cond: Conditioning,
        uncond: Conditioning,
        divisor: int,
        mask: Tensor | None,
        real: RealBatch | None,
    ) -> MicroBatchLoss:
        """L_ψ; with real images, L_ψ + λ_D · CHW · ℓ_D."""
        adversary = self.adversary if real is not None else None
        with _features_of(adversary) as features:
            output, target, weight = self.fake_score_forward(generator, fake_score, draws, cond, uncond, real)
        # The first rows are of the conditional half (at κ1 = 0 of the only one), the last of the real images.
        logits = logit_map(features[-1]) if adversary else None
        both = () if logits is None else (logits[: len(output)], logits[-len(output) :])
        finite = finite_samples(output, target, *both)
        counted = finite if mask is None else mask
        loss = fake_score_loss(output, target, weight, counted, divisor)
        diagnostics = fake_score_diagnostics(output, target, weight)
        if adversary and both:
            d_fake, d_real = both
            l_d = masked_sum(discriminator_loss(d_real, d_fake), counted) / divisor
            loss = loss + adversary.term.lambda_d * output[0].numel() * l_d
            diagnostics |= discriminator_diagnostics(d_real, d_fake)
        return MicroBatchLoss(loss, finite, diagnostics)

    def fake_score_forward(
        self,
        generator: Any,
        fake_score: Any,
        draws: Draws,
        cond: Conditioning,
        uncond: Conditioning,
        real: RealBatch | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(output, target, weight) of L_ψ; x_g carries no gradient.

        Real images are diffused with the samples' own t and ε, and pass in the same batch, after them.
        """
        with torch.no_grad():
            x_g = self._generated(generator, draws, cond)
        x_t = self.schedule.add_noise(x_g, draws.noise, draws.t)
        kappa1 = self.guidance.kappa1
        if real is None:
            output = guided_output(fake_score, x_t, draws.t, cond, uncond, kappa1)
        else:
            x_r = self.schedule.add_noise(real.latents, draws.noise, draws.t)
            # At κ1 = 0 the fake score sees no text, of real images either.
            empty = expanded(uncond, cond)
            halves = [cond] if kappa1 else [empty]
            halves += [] if kappa1 in (0, 1) else [empty]
            text = joined(*halves, empty if kappa1 == 0 else real.cond)
            parts = len(halves)
            outputs = fake_score(torch.cat([x_t] * parts + [x_r]), draws.t.repeat(parts + 1), text).sample
            output = outputs[: len(x_t)]
            output = combine(output, outputs[len(x_t) : 2 * len(x_t)], kappa1) if parts == 2 else output
            output = output if output.itemsize >= 4 else output.float()
        return output, self.schedule.target(x_g, draws.noise, draws.t), self.schedule.weight(draws.t)

    def generator_forward(
        self, generator: Any, fake_score: Any, draws: Draws, cond: Conditioning, uncond: Conditioning
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(x_g, y_real, y_fake at κ2, y_fake at κ3 where it differs) of L_θ."""
        _, kappa2, kappa3, kappa4 = self.guidance.scales
        x_g = self._generated(generator, draws, cond)
        x_t = self.schedule.add_noise(x_g, draws.noise, draws.t)

        def x0(output: Tensor) -> Tensor:
            return self.schedule.x0(output, x_t, draws.t)

        y_real = x0(guided_output(self.teacher, x_t, draws.t, cond, uncond, kappa4))
        if kappa2 == kappa3:
            return x_g, y_real, x0(guided_output(fake_score, x_t, draws.t, cond, uncond, kappa2)), None
        # One forward serves both scales.
        pair = guidance_pair(fake_score, x_t, draws.t, cond, uncond)
        return x_g, y_real, x0(combine(*pair, kappa2)), x0(combine(*pair, kappa3))

    def _generator_weight(self, t: Tensor) -> Tensor | None:
        if self.generator_weight == OMEGA:
            return None
        _, sigma = self.schedule.levels(t)
        return OF_SIGMA[self.generator_weight](sigma)

    def _generated(self, generator: Any, draws: Draws, cond: Conditioning) -> Tensor:
        """x_g = x̂_k of the step that the iteration trains."""
        steps, noises = self.steps, draws.step_noises
        return generate_latents(
            generator,
            self.schedule,
            draws.z,
            cond,
            steps.t_init,
            steps.count,
            noises,
            step_noise=steps.noise,
            last=draws.step,
        )


def _features_of(adversary: Adversary | None) -> AbstractContextManager[list[Tensor]]:
    return nullcontext([]) if adversary is None else adversary.features()


@torch.no_grad()
def finite_samples(*tensors: Tensor) -> Tensor:
    """[B] bool: whether a sample is finite in every one of the [B, …] tensors."""
    return torch.stack([torch.isfinite(x).flatten(1).all(1) for x in tensors]).all(0)


@torch.no_grad()
def fake_score_diagnostics(output: Tensor, target: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """The fake score's loss, as a share of what predicting zero everywhere would lose."""
    error = weight * (output - target).square().flatten(1).mean(1)
    return {"fake_score_error": error.sum() / (weight * target.square().flatten(1).mean(1)).sum()}


@torch.no_grad()
def generator_diagnostics(x_g: Tensor, y_real: Tensor, y_fake: Tensor) -> dict[str, Tensor]:
    """Root mean square of the student's latents; of both x0-predictions' distances, as shares of it."""
    size = x_g.square().mean().sqrt()
    return {
        "latent_size": size,
        "teacher_distance": (y_real - x_g).square().mean().sqrt() / size,
        "score_difference": (y_real - y_fake).square().mean().sqrt() / size,
    }
