"""Guided outputs against the formula, and the table of strategies."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sidlsg.distil.guidance import STRATEGIES, Guidance, combine, guidance_pair, guided_output, make_guidance
from sidlsg.runtime.errors import InputError

KAPPAS = [0, 1, 1.5, 4.5, -1]


def inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return normal(batch, 4, 4, 4), torch.tensor([20, 500, 979][:batch]), normal(batch, 3, 8), normal(1, 3, 8)


@pytest.mark.parametrize("kappa", KAPPAS)
def test_guided_output_is_the_formula_on_two_separate_forwards(make_unet: Callable[..., Any], kappa: float) -> None:
    unet = make_unet()
    x_t, t, cond, uncond = inputs()
    with torch.no_grad():
        out_cond = unet(x_t, t, cond).sample
        out_uncond = unet(x_t, t, uncond.repeat(3, 1, 1)).sample
        found = guided_output(unet, x_t, t, cond, uncond, kappa)
    expected = out_uncond + kappa * (out_cond - out_uncond)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kappa", "samples"), [(0, 3), (1, 3), (1.5, 6), (-1, 6)])
def test_only_the_half_that_counts_runs_at_kappa_0_and_1(kappa: float, samples: int) -> None:
    seen: list[int] = []

    def unet(x: torch.Tensor, t: torch.Tensor, states: torch.Tensor) -> SimpleNamespace:
        assert len(x) == len(t) == len(states)
        seen.append(len(x))
        return SimpleNamespace(sample=x)

    x_t, t, cond, uncond = inputs()
    guided_output(unet, x_t, t, cond, uncond, kappa)
    assert seen == [samples]


def test_the_pair_lets_gradient_through_both_halves(make_unet: Callable[..., Any]) -> None:
    unet = make_unet()
    x_t, t, cond, uncond = inputs()
    cond.requires_grad_(True)
    uncond.requires_grad_(True)
    out_cond, out_uncond = guidance_pair(unet, x_t, t, cond, uncond)
    combine(out_cond, out_uncond, 1.5).square().sum().backward()
    assert cond.grad is not None
    assert uncond.grad is not None
    assert cond.grad.abs().sum() > 0
    assert uncond.grad.abs().sum() > 0


def test_combine_works_in_float32() -> None:
    half = torch.tensor([1.0009765625], dtype=torch.bfloat16)
    assert combine(half, half, 1.5).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "scales", "expected"),
    [
        ("none", {}, (1, 1, 1, 1)),
        ("long", {"kappa4": 3}, (1, 1, 1, 3)),
        ("short", {"kappa_eval": 0.5}, (1, 0.5, 0.5, 1)),
        ("short", {"kappa_eval": 1, "kappa_train": 1.5}, (1.5, 1, 1, 1)),
        ("lsg", {"kappa": 1.5}, (1.5, 1.5, 1.5, 1.5)),
        ("zero_cfg", {}, (0, 0, 0, 1)),
        ("lsg", {"kappa": 0}, (0, 0, 0, 0)),
        ("anti_cfg", {}, (-1, -1, -1, 1)),
        ("custom", {"kappa1": 1, "kappa2": 2, "kappa3": 3, "kappa4": 4}, (1, 2, 3, 4)),
    ],
)
def test_strategies_are_the_rows_of_the_table(name: str, scales: dict[str, float], expected: tuple[float, ...]) -> None:
    assert make_guidance(name, scales).scales == expected


def test_these_are_the_strategies() -> None:
    assert set(STRATEGIES) == {"none", "long", "short", "lsg", "zero_cfg", "anti_cfg"}


@pytest.mark.parametrize(
    ("scales", "drops"), [((1, 1, 1, 7), False), ((1.5, 1, 1, 1), True), ((1, 0.5, 1, 1), True), ((1, 1, 0, 1), True)]
)
def test_prompts_are_dropped_where_the_fake_score_is_guided(scales: tuple[float, ...], drops: bool) -> None:
    assert Guidance(*scales).drops_prompts is drops


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1.5", None, True])
def test_a_scale_that_is_not_a_number_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"kappa4 is .*finite number"):
        Guidance(1, 1, 1, value)


@pytest.mark.parametrize(
    ("name", "scales", "message"),
    [
        ("lsq", {"kappa": 1}, "did you mean 'lsg'"),
        ("lsg", {}, "needs kappa"),
        ("lsg", {"kappa4": 1}, "has no scale 'kappa4'; it takes: kappa"),
        ("none", {"kappa": 1}, "no scale at all"),
        ("lsg", {"kappa": -1}, r"'lsg' is given κ1..κ4 = -1, -1, -1, -1; it takes 0 or more"),
        ("long", {"kappa4": -0.5}, r"'long' is given κ1..κ4 = 1, 1, 1, -0.5; it takes 0 or more"),
        ("short", {"kappa_eval": -1}, "give such a scale, or strategy 'anti_cfg' or 'custom'"),
        ("short", {"kappa_eval": 0.5, "kappa_train": -1}, "it takes 0 or more"),
    ],
)
def test_wrong_strategies_are_explained(name: str, scales: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_guidance(name, scales)
