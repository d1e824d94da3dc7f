"""Gate rules: what a student must reach to become the champion, by recipe or from a user's file."""

from __future__ import annotations

from sidlsg.distil.recipes import RECIPES, get_recipe
from sidlsg.registry.gate_rule_file import parse_gate_rules
from sidlsg.registry.gate_rules import STUDENT, Floor, GateRules, NoRegression, NotWorse, Ratio
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Published


def _paper_gate(published: tuple[Published, ...]) -> GateRules | None:
    """Within a quarter of the best published FID and 0.01 of its CLIP, and not worse than the champion beyond noise.

    The scores are those of the papers' own protocols, fid/coco2014-30k-clean and clip/vit-g-14-photo-depicts.
    """
    if not published:
        return None
    best = min(published, key=lambda row: row.fid)
    return GateRules(
        floors=(
            Floor(subject=STUDENT, score="fid", limit=round(1.25 * best.fid, 2)),
            Floor(subject=STUDENT, score="clip", limit=round(best.clip - 0.01, 3)),
        ),
        not_worse=(NotWorse(subject=STUDENT, score="fid"), NotWorse(subject=STUDENT, score="clip")),
    )


# Tolerances for seeds and rounding: docs/bundled-teacher.md has five seeds' scores, and the effect of rounding alone.
_TINY_GATE = GateRules(
    floors=(Floor(subject=STUDENT, score="attributes", limit=0.95),),
    ratios=(
        Ratio(subject=STUDENT, score="fid_judge", against_subject="teacher 1 step", factor=0.25),
        Ratio(subject=STUDENT, score="fid_judge", against_subject="teacher 20 steps", factor=3.0),
        Ratio(subject=STUDENT, score="attributes", against_subject="teacher 20 steps", factor=0.99),
    ),
    no_regression=(
        NoRegression(subject=STUDENT, score="fid_judge", tolerance=1.5),
        NoRegression(subject=STUDENT, score="attributes", tolerance=0.005),
    ),
)

# Scenes' text is hard to fit, so whole captions count, against the teacher's 20 steps without guidance. Few runs were
# made, so the tolerances are wide guesses.
_SCENES_GATE = GateRules(
    floors=(Floor(subject=STUDENT, score="attributes", limit=0.9),),
    ratios=(
        Ratio(subject=STUDENT, score="fid_judge", against_subject="teacher 20 steps", factor=1.5),
        Ratio(subject=STUDENT, score="all_attributes", against_subject="teacher 20 steps", factor=0.95),
    ),
    no_regression=(
        NoRegression(subject=STUDENT, score="fid_judge", tolerance=8.0),
        NoRegression(subject=STUDENT, score="all_attributes", tolerance=0.02),
    ),
)

GATES = {name: gate for name, recipe in RECIPES.items() if (gate := _paper_gate(recipe.published))} | {
    "scenes": _SCENES_GATE,
    "tiny": _TINY_GATE,
    "tiny_4step": _TINY_GATE,
    "tiny_flow": _TINY_GATE,
    "tiny_lora": _TINY_GATE,
    "tiny_real": _TINY_GATE,
    "sd15_real": _paper_gate(RECIPES["sd15"].published) or _TINY_GATE,
}
"""Gate rules by recipe; a recipe without rules has no protocol here yet."""


def gate_rules(recipe: str, text: str = "") -> GateRules:
    """The rules in the text of a TOML file, or the recipe's rules if the text is empty.

    Raises:
        InputError: the text holds no rules, or the recipe is unknown or has no gate.
    """
    if text:
        return parse_gate_rules(text)
    get_recipe(recipe)
    if recipe not in GATES:
        raise InputError(
            f"recipe {recipe!r} has no gate: its domain has no protocol that runs here yet; with one: "
            f"{', '.join(sorted(GATES))}"
        )
    return GATES[recipe]
