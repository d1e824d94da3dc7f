"""The `gate` stage: a version and its scorecard in, a verdict out; and the rules of each recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sidlsg.distil.recipes import RECIPES, get_recipe, published_results
from sidlsg.registry.rules import Floor, GateRules, NoRegression, NotWorse, Ratio
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import ModelVersion, Published, Verdict

if TYPE_CHECKING:  # MLflow takes seconds, and the rules are read before anything runs
    from sidlsg.registry.transfer import Transfer

_STUDENT = "student 1 step"


def _paper_gate(published: tuple[Published, ...]) -> GateRules | None:
    """Within a quarter of the best published FID and 0.01 of its CLIP, and no worse than the champion but by noise.

    The scores are those of the papers' own protocols, fid/coco2014-30k-clean and clip/vit-g-14-photo-depicts.
    """
    if not published:
        return None
    best = min(published, key=lambda row: row.fid)
    return GateRules(
        floors=(
            Floor(subject=_STUDENT, score="fid", limit=round(1.25 * best.fid, 2)),
            Floor(subject=_STUDENT, score="clip", limit=round(best.clip - 0.01, 3)),
        ),
        not_worse=(NotWorse(subject=_STUDENT, score="fid"), NotWorse(subject=_STUDENT, score="clip")),
    )


# Room for what seeds and rounding change: README.md has three seeds' scores, and how far rounding alone moved one.
_TINY_GATE = GateRules(
    floors=(Floor(subject=_STUDENT, score="attributes", limit=0.95),),
    ratios=(
        Ratio(subject=_STUDENT, score="fid_judge", against_subject="teacher 1 step", factor=0.25),
        Ratio(subject=_STUDENT, score="fid_judge", against_subject="teacher 20 steps", factor=3.0),
        Ratio(subject=_STUDENT, score="attributes", against_subject="teacher 20 steps", factor=0.99),
    ),
    no_regression=(
        NoRegression(subject=_STUDENT, score="fid_judge", tolerance=1.5),
        NoRegression(subject=_STUDENT, score="attributes", tolerance=0.005),
    ),
)

GATES = {name: rules for name, recipe in RECIPES.items() if (rules := _paper_gate(recipe.published))} | {
    "tiny": _TINY_GATE
}
"""What a student of a recipe must reach to become the champion; a recipe without rules has no protocol here yet."""


def recipe_gate(recipe: str) -> GateRules:
    """The gate's rules for students of a recipe.

    Raises:
        InputError: there is no such recipe, or it has none.
    """
    get_recipe(recipe)
    if recipe not in GATES:
        raise InputError(
            f"recipe {recipe!r} has no gate: its domain has no protocol that runs here yet; with one: "
            f"{', '.join(sorted(GATES))}"
        )
    return GATES[recipe]


def score_page(title: str, scorecard_folder: Path, file: Path) -> None:
    """Write the page of a version's scores, which the registry keeps beside them."""
    from sidlsg.report.scoreboard import write_scoreboard

    write_scoreboard([(title, scorecard_folder)], file, f"Scores of {title}", published_results())


def gate(
    version: ModelVersion,
    scorecard_folder: Path,
    tracking_uri: str,
    rules: GateRules,
    inputs: Mapping[str, str] | None = None,
    run: str = "",
) -> Verdict:
    """Judge a version; see `sidlsg.registry.gate.gate`."""
    from sidlsg.registry import gate as judge

    return judge.gate(version, scorecard_folder, tracking_uri, rules, inputs, run, score_page)


def approve(tracking_uri: str, name: str, which: str, who: str) -> Verdict:
    """Approve a version and judge it again; see `sidlsg.registry.approval.approve`."""
    from sidlsg.registry import approval

    return approval.approve(tracking_uri, name, which, who, score_page)


def transfer(
    source_uri: str, name: str, which: str, tracking_uri: str, target_name: str = "", rules: GateRules | None = None
) -> Transfer:
    """Take a version into another registry and judge it there; see `sidlsg.registry.transfer.transfer`."""
    from sidlsg.registry import transfer as transfers

    return transfers.transfer(source_uri, name, which, tracking_uri, target_name, rules, score_page)


def record_scores(
    version: ModelVersion, scorecard_folder: Path, tracking_uri: str, inputs: Mapping[str, str] | None = None
) -> None:
    """Log a scorecard that is not judged; see `sidlsg.registry.score_log.record_scores`."""
    from sidlsg.registry import score_log

    score_log.record_scores(version, scorecard_folder, tracking_uri, inputs, score_page)
