"""The page of claims: verdicts by hand, studies that share trainings, and the command at its smallest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
EVIDENCE = ROOT / "benchmarks" / "evidence"
sys.path.insert(0, str(EVIDENCE))  # as for the command itself

from claims import CLAIMS, Change, Interval, needed  # noqa: E402
from page import write_page  # noqa: E402
from results import Results  # noqa: E402
from students import ROOTS, SCORES, Workshop  # noqa: E402
from studies import STUDIES, Training  # noqa: E402

from sidlsg.bundled.protocols import IMAGES  # noqa: E402
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
        assert {claim.score for claim in claims} <= set(SCORES)
        assert {label for claim in claims for label in (claim.before, claim.after)} <= STUDIES[name].keys()


def test_every_training_is_a_recipe_with_a_folder_of_its_own() -> None:
    trainings = {training for study in STUDIES.values() for training in study.values()}
    assert len({training.name for training in trainings}) == len(trainings)
    for training in trainings:
        recipe = recipe_with_changes("scenes", json.dumps(training.changes))
        assert recipe.iterations * recipe.batch == training.images
    assert STUDIES["lsg"]["κ = 1.5"] == STUDIES["steps"]["K = 1"] == Training()


def test_every_seed_is_trained_of_what_a_claim_compares_and_one_of_the_rest() -> None:
    wanted = needed(STUDIES, 2)
    assert len(set(wanted)) == len(wanted)
    seeds = {label: sorted(s for t, s in wanted if t == training) for label, training in STUDIES["steps"].items()}
    assert seeds == {"K = 1": [0, 1], "K = 2": [0], "K = 4": [0, 1]}
    for training, seed in wanted:
        if training.start:
            assert wanted.index((training.start, seed)) < wanted.index((training, seed))


def row(distance: float, **more: Any) -> dict[str, Any]:
    scores = dict.fromkeys(SCORES, distance)
    return {"scores": scores, "git_commit": "0123456789abcdef", "hardware": "CPU", "seconds": 3600, "curve": [], **more}


def test_results_are_kept_and_those_of_other_inputs_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    inputs = Workshop(work=tmp_path, domain="shapes", root="bundled:").identity(64)
    results = Results.load(file, inputs)
    assert not results.has(Training(), 0)
    results.add(Training(), 0, row(1.0))
    assert Results.load(file, inputs).has(Training(), 0)
    assert not Results.load(file, inputs).has(Training(), 1)
    kept = file.read_bytes()
    with pytest.raises(InputError, match="has results for images 64, not 2016; give another file as --results"):
        Results.load(file, inputs | {"images": 2016})
    with pytest.raises(InputError, match="has results for teacher "):
        Results.load(file, inputs | {"teacher": "0"})
    assert file.read_bytes() == kept


def test_the_page_says_what_the_results_hold(tmp_path: Path) -> None:
    results = Results(file=tmp_path / "results.json", inputs={"domain": "scenes"})
    for name, distance in (("20 steps", 20.0), ("20 steps, CFG 3", 10.0), ("50 steps", 9.0)):
        results.teacher[name] = dict.fromkeys(SCORES, distance)
    studies = {name: STUDIES[name] for name in ("length", "lsg", "steps")}
    for seed in range(3):
        for label, distance in (("K = 1", 30.0), ("K = 4", 12.0)):
            results.add(STUDIES["steps"][label], seed, row(distance + seed / 10))
    # The longest training is missing still.
    write_page(results, studies, [], tmp_path)
    page = (tmp_path / "evidence.md").read_text()
    assert "6 students, 6.0 hours of training in all, each on CPU, at commit `0123456789`." in page
    assert "| K = 4 | 3 | 12.1 ± 0.25 |" in page
    assert "smallest distance: 20 steps, CFG 3." in page
    assert "(claim of arXiv 2505.12674): **agrees** (`fid_judge` -18 ± 0; agrees by `fid_efficientnet`" in page
    assert "K = 2" not in page
    assert "Samples" not in page
    assert "no seed has both" in page
    rows = [{"images_seen": 100 * n, **dict.fromkeys(SCORES, 50.0 / n)} for n in (1, 2)]
    results.add(STUDIES["length"]["66,560 images"], 0, row(5.0, curve=rows))
    write_page(results, studies, [], tmp_path)
    page = (tmp_path / "evidence.md").read_text()
    assert "on 1 of 1 seeds: it is 0.50 times as large." in page


@pytest.mark.long
def test_the_command_trains_scores_and_writes_the_page_and_another_machine_needs_the_results_alone(
    tmp_path: Path,
) -> None:
    command = [sys.executable, EVIDENCE, "--results", tmp_path / "results.json", "--work", tmp_path / "work"]
    command += ["--domain", "shapes", "--small", "--seeds", "1"]
    command += ["--jobs", "1", "--output", tmp_path, "--study", "length", "--study", "real images", "--study", "lsg"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for work in ("work", "another"):
        command[command.index("--work") + 1] = tmp_path / work
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"wrote {tmp_path / 'evidence.md'}"
    assert "seed 0" not in done.stdout
    page = (tmp_path / "evidence.md").read_text()
    for part in (
        "network at t_init",
        "| κ = 2 | 1 |",
        "Alignment is higher at κ = 3 than at 1.2 (claim of the method's paper): **cannot be told**",
        "of 1 seeds",
    ):
        assert part in page
    for name in ("length", "lsg", "real-images", "trade-off"):
        assert "</svg>" in (tmp_path / "images" / "evidence" / f"{name}.svg").read_text()


def test_the_page_in_the_docs_is_that_of_the_results_in_the_repository(tmp_path: Path) -> None:
    file = ROOT / "benchmarks" / "results" / "evidence.json"
    workshop = Workshop(work=tmp_path, domain="scenes", root=ROOTS["scenes"])
    results = Results.load(file, workshop.identity(IMAGES))
    assert all(results.has(*each) for each in needed(STUDIES, 3))
    write_page(results, STUDIES, [], tmp_path)
    assert (tmp_path / "evidence.md").read_text() == (ROOT / "docs" / "evidence.md").read_text()
