"""The number of processes does not change what is computed: losses, students, gradients, checkpoints, messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distributed.conftest import Outcome, Workers, distance

TOLERANCE = 1e-4
"""Of losses, relative; and of the student, as a share of the distance that it moved."""
BOTH = ("ddp", "fsdp")
UPDATES = ("fake_score", "generator")


def length(weights: dict[str, Tensor]) -> float:
    return distance(weights, {name: torch.zeros_like(tensor) for name, tensor in weights.items()})


def agree(one: Outcome, other: Outcome, first: dict[str, Tensor]) -> dict[str, float]:
    """How far two runs lie apart: their losses, relative, and their students, by the distance moved."""
    assert other.losses
    pairs = [
        (mine, its)
        for iteration in other.losses
        for mine, its in zip(one.losses[iteration], other.losses[iteration], strict=True)
    ]
    moved = distance(one.tensors, first)
    return {
        "loss": max(abs(mine - its) / abs(mine) for mine, its in pairs),
        "student": distance(one.tensors, other.tensors) / moved,
        "moved": moved / length(first),
    }


def check(one: Outcome, other: Outcome, first: dict[str, Tensor], what: str) -> None:
    found = agree(one, other, first)
    print(f"{what}: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items()))
    # Else the students would agree because none of them moved.
    assert found["moved"] > 100 * TOLERANCE
    assert found["loss"] < TOLERANCE
    assert found["student"] < TOLERANCE


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the checkpoints that two processes wrote half-way, by kind."""
    return tmp_path_factory.mktemp("saved")


Done = dict[str, Outcome]
"""Jobs of so many processes, by name: starting them takes most of the time, so they do all that tests look at."""
SCORES = {"do": "scores", "dtype": "float32", "bundled": True}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One process's 20 iterations in float64, each in one piece: that is quickest, and must not matter."""
    return Workers(tmp_path_factory.mktemp("one")).named(1, {"train": {"micro_batch": 8}, "scores": SCORES})


@pytest.fixture(scope="module")
def alone(one: Done) -> Outcome:
    return one["train"]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, saved: Path) -> Done:
    """Two processes' 20 iterations, by kind; each saves half-way."""
    jobs: dict[str, dict[str, Any]] = {kind: {"parallel": kind, "save": str(saved / kind)} for kind in BOTH}
    jobs |= {f"scores-{kind}": SCORES | {"parallel": kind} for kind in BOTH}
    return Workers(tmp_path_factory.mktemp("two")).named(2, jobs)


@pytest.mark.parametrize("kind", BOTH)
def test_two_processes_train_the_same_student(
    alone: Outcome, two: Done, first_weights: dict[str, Tensor], kind: str
) -> None:
    check(alone, two[kind], first_weights, f"{kind} with 2")


@pytest.mark.usefixtures("two")
def test_one_process_goes_on_from_what_two_saved(
    alone: Outcome, workers: Workers, saved: Path, first_weights: dict[str, Tensor]
) -> None:
    jobs = [{"load": str(saved / kind), "micro_batch": 8} for kind in BOTH]
    for kind, outcome in zip(BOTH, workers.do(1, *jobs), strict=True):
        assert sorted(outcome.losses) == list(range(11, 21))
        check(alone, outcome, first_weights, f"1 after {kind} with 2")


@pytest.mark.long
def test_students_of_several_steps_are_the_same_in_two_and_four_processes(workers: Workers) -> None:
    """Also with samples left out, whose places take another sample's noises."""
    steps: dict[str, Any] = {"steps": 3, "iterations": 10, "lr": 1e-3}
    bad = steps | {"do": "gradients", "iterations": 2, "bad": [0, 5]}
    start, one, expected = workers.do(1, steps | {"iterations": 0}, steps | {"micro_batch": 8}, bad)
    for processes in (2, 4):
        jobs = [steps | {"parallel": kind} for kind in BOTH] + [bad]
        *trained, left_out = workers.do(processes, *jobs)
        for kind, outcome in zip(BOTH, trained, strict=True):
            check(one, outcome, start.tensors, f"3 steps, {kind} with {processes}")
        assert left_out.numbers == expected.numbers
        assert distance(left_out.tensors, expected.tensors) < 1e-9 * length(expected.tensors)


@pytest.mark.long
def test_a_flows_students_are_the_same_in_two_and_four_processes_and_go_on_in_another_number(
    workers: Workers, of_family: Callable[[str], Path]
) -> None:
    """A transformer's blocks, sharded; several tensors of conditioning; and times that are no whole numbers."""
    flow: dict[str, Any] = {"teacher": str(of_family("sd3")), "steps": 2, "iterations": 6, "lr": 1e-3}
    start, one = workers.do(1, flow | {"iterations": 0}, flow | {"micro_batch": 8})
    for processes in (2, 4):
        saved = {kind: str(workers.folder / f"{kind}-{processes}") for kind in BOTH}
        outcomes = workers.do(processes, *(flow | {"parallel": kind, "save": saved[kind]} for kind in BOTH))
        for kind, outcome in zip(BOTH, outcomes, strict=True):
            check(one, outcome, start.tensors, f"flow, {kind} with {processes}")
            (resumed,) = workers.do(1, flow | {"load": saved[kind], "micro_batch": 8})
            assert sorted(resumed.losses) == [4, 5, 6]
            check(one, resumed, start.tensors, f"flow, 1 after {kind} with {processes}")


ADAPTER = {"adapter": {"rank": 4}, "iterations": 10, "lr": 1e-2}


@pytest.mark.long
def test_adapters_are_the_same_in_two_and_four_processes_and_go_on_in_another_number(workers: Workers) -> None:
    """Each process has one network; the adapters' gradients travel, and their checkpoints hold the adapters alone."""
    start, one = workers.do(1, ADAPTER | {"iterations": 0}, ADAPTER | {"micro_batch": 8})
    saved = str(workers.folder / "adapters")
    (two,) = workers.do(2, ADAPTER | {"save": saved})
    four, resumed = workers.do(4, ADAPTER, ADAPTER | {"load": saved})
    (alone,) = workers.do(1, ADAPTER | {"load": saved, "name": "alone"})
    for outcome, what in ((two, "2"), (four, "4"), (resumed, "4 after 2"), (alone, "1 after 2")):
        check(one, outcome, start.tensors, f"adapters with {what}")
    assert sorted(resumed.losses) == sorted(alone.losses) == list(range(6, 11))
    assert all(".lora_" in name for name in one.tensors)
    (left_out,) = workers.do(2, ADAPTER | {"do": "gradients", "iterations": 2, "bad": [0, 1, 2, 3], "name": "bad"})
    (expected,) = workers.do(1, ADAPTER | {"do": "gradients", "iterations": 2, "bad": [0, 1, 2, 3], "name": "bad-1"})
    assert left_out.numbers == expected.numbers
    assert distance(left_out.tensors, expected.tensors) < 1e-9 * length(expected.tensors)


@pytest.mark.long
def test_two_processes_go_on_from_s3(workers: Workers, s3_place: str) -> None:
    """One of a machine's processes fetches the files, and the other reads them there."""
    whole, begun = workers.do(2, {"iterations": 2}, {"iterations": 2, "save": s3_place})
    (ended,) = workers.do(2, {"iterations": 2, "load": s3_place, "name": "ended"})
    assert sorted(ended.losses) == [2]
    assert whole.losses[2] == begun.losses[2] == ended.losses[2]
    assert distance(whole.tensors, ended.tensors) == 0


@pytest.mark.long
@pytest.mark.usefixtures("two")
def test_four_processes_train_the_same_student_and_go_on_from_what_two_saved(
    alone: Outcome, workers: Workers, saved: Path, first_weights: dict[str, Tensor]
) -> None:
    jobs: list[dict[str, Any]] = [{"parallel": kind} for kind in BOTH]
    # Each kind from the other kind's checkpoint as well.
    jobs += [{"parallel": kind, "load": str(saved / source)} for kind in BOTH for source in BOTH]
    for job, outcome in zip(jobs, workers.do(4, *jobs), strict=True):
        check(alone, outcome, first_weights, f"{job['parallel']} with 4{' after 2' if 'load' in job else ''}")


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 4])
def test_the_figure_in_float32(workers: Workers, first_weights: dict[str, Tensor], processes: int) -> None:
    """Rounding alone: Adam at β1 = 0 turns a gradient's last bits near zero into whole steps."""
    (one,) = workers.do(1, {"dtype": "float32"})
    jobs = [{"dtype": "float32", "parallel": kind} for kind in BOTH]
    for kind, outcome in zip(BOTH, workers.do(processes, *jobs), strict=True):
        found = agree(one, outcome, first_weights)
        print(f"float32, {kind} with {processes}: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items()))
        assert found["student"] < 0.1


@pytest.fixture(scope="module")
def spoilt_jobs() -> list[dict[str, Any]]:
    """Samples that are not finite: one in the first process, and all of the first process's."""
    return [{"do": "gradients", "iterations": 2, "bad": bad} for bad in ([1], [0, 1, 2, 3])]


@pytest.mark.long
@pytest.mark.parametrize("kind", BOTH)
def test_samples_that_are_not_finite_leave_the_one_processs_gradient(
    workers: Workers, spoilt_jobs: list[dict[str, Any]], kind: str
) -> None:
    expected = workers.do(1, *spoilt_jobs, {"do": "gradients", "iterations": 2})
    found = workers.do(2, *({**job, "parallel": kind} for job in spoilt_jobs))
    whole = expected.pop()
    for job, one, two in zip(spoilt_jobs, expected, found, strict=True):
        count = len(job["bad"])
        assert one.numbers["left_out"] == two.numbers["left_out"] == dict.fromkeys(UPDATES, count)
        assert length(two.tensors) > 0
        assert distance(one.tensors, two.tensors) < 1e-9 * length(one.tensors)
        # They did count for something.
        assert distance(one.tensors, whole.tensors) > 1e-3 * length(whole.tensors)


@pytest.mark.long
def test_gradients_travel_once_an_update_or_are_sharded_on_each_micro_batch(workers: Workers) -> None:
    """DDP sends the same for one micro-batch and for several; FSDP keeps no whole gradients in between."""
    jobs = [{"do": "messages", "parallel": kind, "iterations": 1, "dtype": "float32"} for kind in BOTH]
    for kind, outcome in zip(BOTH, workers.do(2, *jobs), strict=True):
        counts, share = outcome.numbers["counts"], str(outcome.numbers["share"])
        (gradients,) = [name for name in counts[share] if ("allreduce" if kind == "ddp" else "reduce_scatter") in name]
        assert counts[share][gradients] > 0
        times = 1 if kind == "ddp" else outcome.numbers["share"]
        assert counts["1"][gradients] == times * counts[share][gradients], counts


def test_scores_during_training_do_not_depend_on_the_number_of_processes(one: Done, two: Done) -> None:
    """Each process scores all pictures by itself: an image that counted twice would move every distance."""
    expected = one["scores"].numbers["scores"]
    assert two["scores-ddp"].numbers["scores"] == expected
    # FSDP takes weights in the contiguous layout alone, for which kernels round otherwise.
    for name, scores in two["scores-fsdp"].numbers["scores"].items():
        assert scores == pytest.approx(expected[name], rel=TOLERANCE)
    # The student is the teacher still: one step of it is far from real shapes, and from its own twenty steps.
    assert expected["shapes"]["fid_judge"] > 1
    assert expected["likeness"]["fid_teacher"] > 1


@pytest.mark.long
@pytest.mark.parametrize("kind", BOTH)
def test_half_precision_trains_in_several_processes(workers: Workers, kind: str) -> None:
    """With one micro-batch a process and with two: weights are frozen at their first pass, trained at the second."""
    # In an untrained network rounding to half would be most of the two scores' difference.
    shared = {"dtype": "float32", "precision": "bf16", "iterations": 1, "bundled": True}
    jobs = [shared | {"parallel": kind, "batch": batch, "name": f"{kind}-{batch}"} for batch in (4, 8)]
    alone = workers.do(1, *(job | {"name": f"alone-{job['batch']}"} for job in jobs))
    for one, many in zip(alone, workers.do(2, *jobs), strict=True):
        assert many.losses[1] == pytest.approx(one.losses[1], rel=0.05)
        assert all(torch.isfinite(tensor).all() for tensor in many.tensors.values())
