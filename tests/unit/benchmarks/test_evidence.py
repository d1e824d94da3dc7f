"""The page of claims: verdicts by hand, studies that share trainings, and the command at its smallest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EVIDENCE = ROOT / "benchmarks" / "evidence"
sys.path.insert(0, str(EVIDENCE))  # as for the command itself

from claims import CLAIMS, Change, Interval  # noqa: E402
from students import Workshop  # noqa: E402
from studies import STUDIES, Training  # noqa: E402

from sidlsg.distil.recipes import recipe_with_changes  # noqa: E402
from sidlsg.runtime.errors import InputError  # noqa: E402


def verdict(before: list[float], after: list[float], rises: bool = True) -> str:
    claim = Change(text="", score="s", before="a", after="b", rises=rises)
    scores = {name: {seed: {"s": v} for seed, v in enumerate(each)} for name, each in (("a", before), ("b", after))}
    return claim.judged(scores)[0]


def test_an_interval_is_students() -> None:
    found = Interval.of([1.0, 2.0, 3.0])
    assert found.mean == 2
    assert found.half == pytest.approx(4.303 * 1 / 3**0.5, rel=1e-3)
    assert Interval.of([5.0]).half == float("inf")


def test_a_verdict_needs_seeds_that_agree() -> None:
    assert verdict([1, 2, 3], [2, 3.1, 4]) == "agrees"
    assert verdict([1, 2, 3], [2, 3.1, 4], rises=False) == "disagrees"
    assert verdict([1, 2, 3], [2, 1, 4]) == "cannot be told"
    assert verdict([1], [100]) == "cannot be told"


def test_without_a_seed_of_both_nothing_can_be_told() -> None:
    assert verdict([], [1.0, 2.0]) == "cannot be told"


def test_seeds_are_compared_with_themselves() -> None:
    # The seeds differ by much more than what the change brings to each.
    assert verdict([0, 100, 200], [1, 101.1, 201]) == "agrees"


def test_claims_name_labels_of_their_study() -> None:
    for name, claims in CLAIMS.items():
        assert {label for claim in claims for label in (claim.before, claim.after)} <= STUDIES[name].keys()


def test_every_training_is_a_recipe_with_a_folder_of_its_own() -> None:
    trainings = {training for study in STUDIES.values() for training in study.values()}
    assert len({training.name for training in trainings}) == len(trainings)
    for training in trainings:
        recipe = recipe_with_changes("scenes", json.dumps(training.changes))
        assert recipe.iterations * recipe.batch == training.images
    assert STUDIES["lsg"]["κ = 1.5"] == STUDIES["steps"]["K = 1"] == Training()


def test_results_of_other_inputs_are_refused(tmp_path: Path) -> None:
    Workshop(work=tmp_path, domain="shapes", root="bundled:").require_inputs(64)
    Workshop(work=tmp_path, domain="shapes", root="bundled:").require_inputs(64)
    kept = (tmp_path / "inputs.json").read_bytes()
    with pytest.raises(InputError, match="has results for images 64, not 2016; give another folder as --work"):
        Workshop(work=tmp_path, domain="shapes", root="bundled:").require_inputs(2016)
    assert (tmp_path / "inputs.json").read_bytes() == kept
    (tmp_path / "inputs.json").write_bytes(kept.replace(b'"teacher": "', b'"teacher": "0'))
    with pytest.raises(InputError, match="has results for teacher 0"):
        Workshop(work=tmp_path, domain="shapes", root="bundled:").require_inputs(64)


@pytest.mark.long
def test_the_command_trains_scores_and_writes_the_page_and_makes_nothing_twice(tmp_path: Path) -> None:
    command = [sys.executable, EVIDENCE, "--work", tmp_path / "work", "--domain", "shapes", "--small", "--seeds", "1"]
    command += ["--jobs", "1", "--output", tmp_path, "--study", "length", "--study", "real images", "--study", "lsg"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"wrote {tmp_path / 'evidence.md'}"
    assert "seed 0" not in done.stdout
    page = (tmp_path / "evidence.md").read_text()
    for part in (
        "network at t_init",
        "| κ = 2 | 1 |",
        "Alignment is higher at κ = 3 than at 1.2: **cannot be told**",
        "of 1 seeds",
    ):
        assert part in page
    for name in ("length", "lsg", "real-images", "trade-off"):
        assert "</svg>" in (tmp_path / "images" / "evidence" / f"{name}.svg").read_text()
