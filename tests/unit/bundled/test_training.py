"""The shared training loop: its schedule and average by hand, and resumed runs bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sidlsg.bundled import training as module
from sidlsg.bundled.training import Log, TeachSchedule, fit, learning_rate
from sidlsg.runtime.errors import InputError
from sidlsg.storage.tensors import load_tensors, without_prefix

SCHEDULE = TeachSchedule(iterations=24, batch=2, lr=1e-2, warmup=4, ema_decay=0.9, checkpoint_every=5)


class Stopped(Exception):  # noqa: N818 - it stands for a kill, not for an error
    """Ends a run as a kill would."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that do not fall on checkpoints."""
    monkeypatch.setattr(module, "LOG_EVERY", 4)


def new_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def loss_of(model: nn.Module) -> Callable[[int], torch.Tensor]:
    def loss_at(iteration: int) -> torch.Tensor:
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(iteration))
        x = x.contiguous(memory_format=torch.channels_last)
        return nn.functional.mse_loss(model(x), x.flip(-1))

    return loss_at


def train(model: nn.Module, place: Path, stop_at: int | None = None, schedule: TeachSchedule = SCHEDULE) -> Log:
    plain = loss_of(model)

    def loss_at(iteration: int) -> torch.Tensor:
        if iteration == stop_at:
            raise Stopped
        return plain(iteration)

    return fit("test", model, loss_at, schedule, place, lambda _: None, {})


@pytest.mark.parametrize("stops", [[7], [5], [3, 12, 21], [23]])
def test_a_stopped_run_ends_as_one_that_was_not(tmp_path: Path, stops: list[int]) -> None:
    whole = new_model()
    log = train(whole, tmp_path / "whole.safetensors")
    for stop in stops:
        with pytest.raises(Stopped):
            train(new_model(), tmp_path / "parts.safetensors", stop)
    resumed = new_model()
    assert train(resumed, tmp_path / "parts.safetensors") == log
    for mine, theirs in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    first, second = (load_tensors(tmp_path / f"{name}.safetensors") for name in ("whole", "parts"))
    assert first[0].keys() == second[0].keys()
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    assert first[1] == second[1]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    model = new_model()
    log = train(model, tmp_path / "x.safetensors")
    again = new_model()
    assert train(again, tmp_path / "x.safetensors", stop_at=0) == log
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("made_from", "schedule", "reason"),
    [
        ({"seed": 1}, SCHEDULE, "seed is 0 there and 1 here"),
        ({"seed": 0, "more": [1]}, SCHEDULE, r"more is None there and \[1\] here"),
        ({"seed": 0}, replace(SCHEDULE, lr=0.5), "schedule is .* here"),
    ],
)
def test_the_state_of_another_training_is_refused(
    tmp_path: Path, made_from: dict[str, Any], schedule: TeachSchedule, reason: str
) -> None:
    place, model = tmp_path / "x.safetensors", new_model()
    fit("test", model, loss_of(model), SCHEDULE, place, lambda _: None, {"seed": 0})
    before = place.read_bytes()
    with pytest.raises(InputError, match=f"is the state of another training: {reason}.*delete it"):
        fit("test", model, loss_of(model), schedule, place, lambda _: None, made_from)
    assert place.read_bytes() == before


def test_the_run_is_plain_adamw_with_an_average(tmp_path: Path) -> None:
    """The same iterations, written out with torch's parts alone."""
    schedule = TeachSchedule(iterations=6, batch=2, lr=1e-2, warmup=2, ema_decay=0.3, checkpoint_every=6)
    model, plain = new_model(), new_model()
    train(model, tmp_path / "x.safetensors", schedule=schedule)

    optimizer = torch.optim.AdamW(plain.parameters(), betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = [p.detach().clone() for p in plain.parameters()]
    # Warm-up to the peak over two iterations, then a cosine over four: cos of 0, π/4, π/2, 3π/4.
    rates = [0.5e-2, 1e-2, 1e-2, 1e-2 * (1 + 0.5**0.5) / 2, 0.5e-2, 1e-2 * (1 - 0.5**0.5) / 2]
    decays = [1 / 10, 2 / 11, 3 / 12, 0.3, 0.3, 0.3]
    for iteration, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss_of(plain)(iteration).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        average = [decay * a + (1 - decay) * p.detach() for a, p in zip(average, plain.parameters(), strict=True)]
    for found, expected in zip(model.parameters(), average, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)
    trained = without_prefix("model", load_tensors(tmp_path / "x.safetensors")[0])
    for name, expected in plain.state_dict().items():
        assert torch.allclose(trained[name], expected, atol=1e-6)
    assert not model.training


def test_the_log_holds_the_mean_loss_since_the_row_before(tmp_path: Path) -> None:
    # Without a learning rate the losses are those of the first weights.
    schedule = TeachSchedule(iterations=10, batch=2, lr=0.0, warmup=1, checkpoint_every=10)
    model = new_model()
    plain = loss_of(copy.deepcopy(model))
    losses = [float(plain(i).detach()) for i in range(10)]
    rows = train(model, tmp_path / "x.safetensors", schedule=schedule)
    assert [row["iteration"] for row in rows] == [4, 8, 10]
    for row, part in zip(rows, (losses[:4], losses[4:8], losses[8:]), strict=True):
        assert row["loss"] == pytest.approx(sum(part) / len(part), abs=1e-5)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    schedule = TeachSchedule(iterations=110, batch=1, lr=2.0, warmup=10)
    assert [learning_rate(schedule, i) for i in (0, 4, 9, 10, 60)] == pytest.approx([0.2, 1.0, 2.0, 2.0, 1.0])
    assert learning_rate(schedule, 110) == pytest.approx(0.0)
    rates = [learning_rate(schedule, i) for i in range(10, 111)]
    assert rates == sorted(rates, reverse=True)


def test_lines_tell_of_progress_and_of_a_resumed_run(tmp_path: Path) -> None:
    lines: list[str] = []
    model = new_model()
    with pytest.raises(Stopped):
        train(model, tmp_path / "x.safetensors", stop_at=6)
    again = new_model()
    fit("test", again, loss_of(again), SCHEDULE, tmp_path / "x.safetensors", lines.append, {})
    assert lines[0] == f"test: continues at iteration 5 from {tmp_path / 'x.safetensors'}"
    assert lines[-1].startswith("test: 24/24 iterations, loss ")
