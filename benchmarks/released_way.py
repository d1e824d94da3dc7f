"""A stand-in for the way of the released SiD-LSG code, to measure against: the same maths, done as that code does it.

It is written from what is known of that code, and from nothing of its text:

- float32, TF32 off, the default memory layout;
- every network call has its prompts encoded anew: five times an iteration, and the empty prompt in each of the three
  calls that are guided;
- outputs become x0-predictions in a Python loop over the samples;
- `torch.optim.Adam` with its default implementation and both moments, gradients cleaned parameter by parameter;
- the garbage collector runs and the CUDA cache is emptied once an iteration.

Where this leaves a choice, the faster one is taken: both guidance halves in one batch, the empty prompt encoded as one
row, frozen networks that compute no gradients of weights, losses that nobody reads, text in one batch a call.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sidlsg.distil.sampler import UPDATES, DrawPlan, Draws, Update

EncodeText = Callable[[Sequence[str]], Tensor]
"""Prompts to [B, L, D] text states."""


class ReleasedWay:
    """Networks and optimizers of the stand-in, and its iteration for an ε-predicting teacher under LSG."""

    def __init__(
        self,
        unet: Any,
        alphas_cumprod: Tensor,
        encode: EncodeText,
        texts: Sequence[str],
        *,
        kappa: float,
        lr: float,
        t_init: int = 625,
        half_life: float = 1000,
        device: torch.device | str = "cpu",
        collect: bool = True,
    ) -> None:
        """Args:
        unet: the teacher's `UNet2DConditionModel`; it is copied.
        alphas_cumprod: [T] of the teacher's schedule.
        encode: the text encoder, tokenizer included.
        texts: the prompt set.
        kappa: all four scales.
        lr: both learning rates.
        t_init: the generator's timestep.
        half_life: of the EMA, in images.
        device: where networks run.
        collect: whether the garbage collector runs once an iteration, and the CUDA cache is emptied.
        """
        self.teacher, self.generator, self.fake_score, self.ema = (
            copy.deepcopy(unet).to(device).to(memory_format=torch.contiguous_format) for _ in range(4)
        )
        for network in (self.teacher, self.ema):
            network.requires_grad_(False)
        self.optimizers = {
            name: torch.optim.Adam(getattr(self, name).requires_grad_(True).parameters(), lr=lr, betas=(0.0, 0.999))
            for name in UPDATES
        }
        self.alphas_cumprod = alphas_cumprod.to(device, torch.float32)
        self.encode, self.texts = encode, texts
        self.kappa, self.t_init, self.half_life, self.device = kappa, t_init, half_life, torch.device(device)
        self.collect = collect
        self.iterations = 0
        self.images_seen = 0

    def iterate(self, plan: DrawPlan, micro_batch: int) -> dict[str, Tensor]:
        """One iteration on what the plan draws; the two losses."""
        losses = {update: self._update(update, plan, micro_batch) for update in UPDATES}
        self._average(plan.batch)
        self.iterations += 1
        self.images_seen += plan.batch
        if self.collect:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return losses

    def _update(self, update: Update, plan: DrawPlan, micro_batch: int) -> Tensor:
        trained: nn.Module = getattr(self, update)
        for network in (self.generator, self.fake_score):
            network.requires_grad_(network is trained)
        optimizer = self.optimizers[update]
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for start in range(0, plan.batch, micro_batch):
            draws = plan.draw(self.iterations, update, start, min(start + micro_batch, plan.batch))
            prompts = [
                "" if empty else self.texts[index] for index, empty in zip(draws.prompts, draws.replaced, strict=True)
            ]
            loss = getattr(self, f"_{update}_loss")(prompts, self._here(draws)) / plan.batch
            loss.backward()
            total += loss.detach()
        for parameter in trained.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0.0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        optimizer.step()
        return total

    def _fake_score_loss(self, prompts: Sequence[str], draws: Draws) -> Tensor:
        with torch.no_grad():
            x_g = self._sample(prompts, draws.z)
        output, _ = self._denoise(self.fake_score, x_g, draws, prompts)
        return (output - draws.noise).square().sum()

    def _generator_loss(self, prompts: Sequence[str], draws: Draws) -> Tensor:
        x_g = self._sample(prompts, draws.z)
        y_real, y_fake = (
            self._x0(*self._denoise(network, x_g, draws, prompts), draws.t)
            for network in (self.teacher, self.fake_score)
        )
        with torch.no_grad():
            omega = (x_g - y_real).abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-5)
        return ((y_real - y_fake) * (y_fake - x_g) / omega).sum()

    def _sample(self, prompts: Sequence[str], z: Tensor) -> Tensor:
        t = torch.full((len(z),), self.t_init, dtype=torch.long, device=self.device)
        x = (1 - self.alphas_cumprod[t]).sqrt().view(-1, 1, 1, 1) * z
        return self._x0(self.generator(x, t, self._text(prompts)).sample, x, t)

    def _denoise(self, network: Any, x: Tensor, draws: Draws, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The guided output, and x_t."""
        alpha_bar = self.alphas_cumprod[draws.t].view(-1, 1, 1, 1)
        x_t = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * draws.noise
        cond, uncond = self._text(prompts), self._text([""])
        both = network(
            torch.cat([x_t, x_t]), torch.cat([draws.t, draws.t]), torch.cat([uncond.expand_as(cond), cond])
        ).sample
        out_uncond, out_cond = both.chunk(2)
        return out_uncond + self.kappa * (out_cond - out_uncond), x_t

    def _x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        rows = []
        for i in range(len(t)):
            alpha_bar = self.alphas_cumprod[t[i]]
            rows.append((x_t[i] - (1 - alpha_bar).sqrt() * output[i]) / alpha_bar.sqrt())
        return torch.stack(rows)

    @torch.no_grad()
    def _text(self, prompts: Sequence[str]) -> Tensor:
        return self.encode(prompts)

    @torch.no_grad()
    def _average(self, batch: int) -> None:
        half_life = min(self.half_life, 0.05 * self.images_seen)
        decay = 0.5 ** (batch / max(half_life, 1e-8)) if half_life else 0.0
        for average, parameter in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
            average.copy_(parameter.lerp(average, decay))

    def _here(self, draws: Draws) -> Draws:
        moved = (x.to(self.device) for x in (draws.z, draws.noise, draws.t))
        return Draws(draws.prompts, draws.replaced, *moved)
