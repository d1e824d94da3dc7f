"""What a training computes is that of its declared version; see numerics.py, which writes the numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidlsg import distil
from sidlsg.distil import guidance, loop, losses, optimizer, sampler, step
from sidlsg.teacher import schedule
from sidlsg.teacher.schedule import NoiseSchedule
from unit.distil.numerics import CASES, COMMAND, FILE, VERSION, numbers, trained
from unit.golden_numbers import Numbers, differences, remake


def kept(case: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(FILE.read_text())[VERSION]["values"][case]
    return values


def test_the_numbers_are_those_of_the_declared_version() -> None:
    assert differences(FILE, numbers(), COMMAND) == []


def altered(function: Callable[..., Any], **changed: Callable[[Any], Any]) -> Callable[..., Any]:
    """A function with some of its arguments changed, by their names."""
    names = function.__code__.co_varnames

    def call(*given: Any, **named: Any) -> Any:
        values = (changed[name](v) if name in changed else v for name, v in zip(names, given, strict=False))
        return function(*values, **named)

    return call


@pytest.mark.parametrize(
    ("case", "place", "name", "other"),
    [
        pytest.param(case, place, name, other, id=f"{place.__name__.split('.')[-1]}.{name}")
        for case, place, name, other in (
            ("epsilon", losses, "generator_loss", altered(losses.generator_loss, alpha=lambda alpha: 1.001 * alpha)),
            ("v_prediction", losses, "fake_score_loss", altered(losses.fake_score_loss, weight=lambda w: w.sqrt())),
            ("v_prediction", losses, "OMEGA_MINIMUM", 1.0),
            ("v_prediction", losses, "combine", altered(guidance.combine, kappa=lambda kappa: 1.001 * kappa)),
            ("epsilon", losses, "generate_latents", altered(sampler.generate_latents, t_init=lambda t: t - 1)),
            ("epsilon", step, "RAMP_UP", 0.0501),
            ("v_prediction", step, "ema_decay", altered(step.ema_decay, half_life=lambda images: 1.001 * images)),
            ("v_prediction", optimizer, "BETA2", 0.9999),
            ("epsilon", step, "UPDATES", ("generator", "fake_score")),
            ("epsilon", schedule, "T_MIN", schedule.T_MIN + 1),
            ("epsilon", loop, "learning_rate_factor", lambda *_: 1.0),
            ("v_prediction", NoiseSchedule, "weight", lambda self, t: self.alphas_cumprod[t].sqrt()),
        )
    ],
)
def test_a_changed_formula_needs_another_version(
    case: str, place: Any, name: str, other: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "numerics.json"
    remake(file, {VERSION: Numbers(version=distil.NUMERICS, values={case: kept(case)})})
    monkeypatch.setattr(place, name, other)
    found = {VERSION: Numbers(version=distil.NUMERICS, values={case: trained(CASES[case], case)})}
    (said,) = differences(file, found, COMMAND)
    assert "and sidlsg.distil.NUMERICS is the same. If results should change, raise sidlsg.distil.NUMERICS" in said
    assert COMMAND in said
    with pytest.raises(SystemExit, match=r"raise sidlsg\.distil\.NUMERICS first"):
        remake(file, found)
    remake(file, {VERSION: Numbers(version="another", values=found[VERSION].values)})


def test_another_version_needs_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil, "NUMERICS", "2")
    found = {VERSION: Numbers(version=distil.NUMERICS, values={case: kept(case) for case in CASES})}
    (said,) = differences(FILE, found, COMMAND)
    assert said.startswith("sidlsg.distil.NUMERICS is '2', and ")
    assert said.endswith(f"run `{COMMAND}`")


def test_the_first_version_is_the_digest_that_earlier_checkpoints_carry() -> None:
    # Remove this test with the first raise: until then, checkpoints of before must be continued.
    assert distil.NUMERICS == "d0a9ed2d8eb9d3b774916326b8a17728d619c383ad4b5402f85b140f088d0c82"
