"""Alarms: checks of the training log that name what is wrong with a run, the likely cause, and what to do."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sidlsg.distil.guidance import KAPPAS
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.state import Row

WINDOW = 5
"""Rows that a check takes together: one odd batch alone raises nothing."""
NAN_SHARE = 0.01
"""Share of non-finite samples. The method has none; one in a hundred biases the gradient."""
SAMPLES_LOST_AT_ONCE = 0.5
"""Share of non-finite samples in one row, without waiting for more rows."""
LARGEST_STEP = 0.1
"""An update's size as a share of the weights' own; 0.01 is already a bold learning rate, and 1 replaces them."""
LEAST_STEP_RATIO = 1e-2
"""The fake score's update as a share of the generator's: below, it cannot follow."""
LEAST_DIFFERENCE = 1e-4
"""Difference of the scores at equal κ, as a share of the latents' size: below, both networks are the same."""
FAKE_SCORE_ERROR = 1.2
"""Predicting zero everywhere gives 1; the rest is room for chance."""
DRIFT = 3.0
"""The fake score's error against the lowest that it had."""
DRIFT_ROWS = 20
LATENT_SIZE = (0.1, 3.0)
"""Root mean square of the latents: a VAE's scaling factor makes that of images about 1."""
TEACHER_DISTANCE = 5.0
"""From the latents to the teacher's predictions of them. Latents of images are of size 1, unrelated ones 1.4 apart."""
FP16_SETTLES = 50
"""Iterations in which fp16's loss scale may still be too high, so that updates are skipped."""
GRADIENT_GROWTH = 100.0
"""A gradient's norm against its own median before."""
GRADIENT_ROWS = 50
GRADIENT_RATIO = 1e-5
"""The generator's gradient against the fake score's: both losses sum over the same elements, so the ratio is near 1."""
SATURATED = 0.5
"""Share of the discriminator's logits at the clamp, where it passes no gradient on."""
GUESSING = 0.52
"""The discriminator's accuracy, mean of both sides: 0.5 is a guess."""
CERTAIN = 0.99
"""Share of a side's samples that it tells right."""
DISCRIMINATOR_ROWS = 20
"""Rows for which it guesses or is certain."""
STRONG_GUIDANCE = 10.0
"""Above, a scale is blamed first: published runs take 1.5 to 4.5, and ordinary sampling 7.5."""


@dataclass(frozen=True)
class Alarm:
    """One thing that is wrong with a run."""

    name: str
    seen: str
    """What the check found, with the numbers and the limit."""
    cause: str
    """The likely one."""
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.seen}; likely cause: {self.cause}; {self.advice}"


class Alarms:
    """Checks each row of the log, and warns or ends the run as the recipe's `on_alarm` says; each alarm goes off once.

    All that it knows comes from rows: a run that resumes gives it the earlier ones with `remember`, and is then
    checked as if it had never stopped.
    """

    def __init__(
        self, recipe: Recipe, report: Callable[[str], None], count: Callable[[str], None] | None = None
    ) -> None:
        """`report` receives the warnings, and `count` the name of each alarm that goes off."""
        self.recipe, self.report, self.count = recipe, report, count
        self.rows: list[Row] = []
        self.raised: set[str] = set()

    def remember(self, rows: Iterable[Row]) -> None:
        """Take the rows that the run logged before this process began; nothing is raised for them."""
        self.rows = list(rows)

    def __call__(self, row: Row) -> str | None:
        """Check the newest row; returns what ends the run, if anything does."""
        self.rows.append(row)
        return self.raise_new(check_rows(self.rows, self.recipe), int(row["iteration"]))

    def raise_new(self, alarms: Iterable[Alarm], iteration: int) -> str | None:
        """Raise the alarms that did not go off before; returns what ends the run, if anything does."""
        if self.recipe.on_alarm == "off":
            return None
        new = [alarm for alarm in alarms if alarm.name not in self.raised]
        self.raised |= {alarm.name for alarm in new}
        if self.count is not None:
            for alarm in new:
                self.count(alarm.name)
        text = "\n".join(f"alarm at iteration {iteration}: {alarm}" for alarm in new)
        if self.recipe.on_alarm == "stop":
            return text or None
        if text:
            self.report(text)
        return None


def check_rows(rows: Sequence[Row], recipe: Recipe) -> list[Alarm]:
    """The alarms of the newest rows of a log, given oldest first; a number that a row lacks raises nothing."""
    for checks in (FIRST_CHECKS, CHECKS):
        if found := [alarm for check in checks if (alarm := check(rows, recipe)) is not None]:
            return found
    return []


def _nan_samples(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    shares = [row["nan_share"] for row in rows[-WINDOW:]]
    mean, bad = statistics.fmean(shares), sum(share > 0 for share in shares)
    if shares[-1] < SAMPLES_LOST_AT_ONCE and (mean <= NAN_SHARE or bad < 2):
        return None
    cause, advice = diagnosis(recipe)
    if recipe.precision == "fp16":
        cause = f"fp16 overflows or {cause}"
        advice = f"set precision to bf16 or fp32, which do not overflow; where that does not help, {advice}"
    return Alarm(
        "samples-not-finite",
        f"{max(mean, shares[-1]):.1%} of the samples were NaN or infinite and left the loss "
        f"(limit {NAN_SHARE:.0%} over {WINDOW} rows, or {SAMPLES_LOST_AT_ONCE:.0%} in one)",
        cause,
        advice,
    )


def _large_steps(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    for network, rate in (("generator", "lr"), ("fake_score", "fake_score_lr")):
        size = _median(rows, f"{network}_step")
        if size is not None and size > LARGEST_STEP:
            return Alarm(
                "steps-too-large",
                f"one update changes the {_words(network)}'s weights by {size:.0%} of their own size "
                f"(limit {LARGEST_STEP:.0%})",
                f"the learning rate is too high ({rate} = {getattr(recipe, rate):g})",
                f"start again with {rate} 10 to 1000 times lower",
            )
    return None


def _fake_score_still(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    if _settling(rows, recipe):
        return None
    own, other = _median(rows, "fake_score_step"), _median(rows, "generator_step")
    _, kappa2, _, kappa4 = recipe.guidance.scales
    differences = _recent(rows, "score_difference")
    if own is not None and other is not None and (own == 0 or own < LEAST_STEP_RATIO * other):
        seen = (
            f"one update changes the fake score's weights by {own:.2g} of their size, the generator's by {other:.2g} "
            f"(limit {LEAST_STEP_RATIO:g} times the generator's)"
        )
    elif kappa2 == kappa4 and differences is not None and max(differences) < LEAST_DIFFERENCE:
        seen = (
            f"teacher and fake score predict the same to {max(differences):.1e} of the latents' size "
            f"(limit {LEAST_DIFFERENCE:g}), so that nothing pulls the generator"
        )
    else:
        return None
    return Alarm(
        "fake-score-not-trained",
        seen,
        f"the fake score is not updated: fake_score_lr = {recipe.fake_score_lr:g} is too small for "
        f"lr = {recipe.lr:g}{_or_skipped(recipe)}",
        "set fake_score_lr to lr or higher",
    )


def _generator_still(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    ratios = [
        row["generator_gradient_norm"] / max(row["fake_score_gradient_norm"], 1e-30)
        for row in rows[-WINDOW:]
        if {"generator_gradient_norm", "fake_score_gradient_norm"} <= row.keys()
    ]
    steps = _recent(rows, "generator_step")
    if _settling(rows, recipe) or _fake_score_still(rows, recipe) is not None:
        return None  # which would be why
    if len(ratios) == WINDOW and max(ratios) < GRADIENT_RATIO:
        seen = f"the generator's gradient is {max(ratios):.1e} of the fake score's (limit {GRADIENT_RATIO:g})"
        cause = "the fake score equals the teacher, or half precision rounds the gradient to nothing"
    elif steps is not None and max(steps) == 0:
        seen = f"the generator's weights have not changed in the last {WINDOW} rows"
        cause = f"its learning rate is too small (lr = {recipe.lr:g})"
    else:
        return None
    return Alarm(
        "generator-not-trained",
        seen,
        cause + _or_skipped(recipe),
        "check lr and fake_score_lr; the published runs have both the same",
    )


def _fake_score_worse_than_nothing(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    errors = _recent(rows, "fake_score_error")
    if errors is None or statistics.fmean(errors) < FAKE_SCORE_ERROR:
        return None
    return Alarm(
        "fake-score-useless",
        f"the fake score's error is {statistics.fmean(errors):.3g} times that of predicting zero everywhere "
        f"(limit {FAKE_SCORE_ERROR:g})",
        *diagnosis(recipe, "kappa1"),
    )


def _fake_score_drift(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    errors = _finite(rows, "fake_score_error")
    if len(errors) < 2 * DRIFT_ROWS:
        return None
    starts = range(0, len(errors) - DRIFT_ROWS, DRIFT_ROWS)
    lowest = min(statistics.fmean(errors[start : start + DRIFT_ROWS]) for start in starts)
    now = statistics.fmean(errors[-DRIFT_ROWS:])
    if now <= DRIFT * lowest:
        return None
    return Alarm(
        "fake-score-drifts",
        f"the fake score's error rose to {now:.3g} (mean of {DRIFT_ROWS} rows) from {lowest:.3g} "
        f"(limit {DRIFT:g} times)",
        f"the generator runs ahead of the fake score (lr = {recipe.lr:g}, fake_score_lr = {recipe.fake_score_lr:g})",
        "lower lr, or raise fake_score_lr above it",
    )


def _latent_size(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    size = _median(rows, "latent_size")
    low, high = LATENT_SIZE
    if size is None or low <= size <= high:
        return None
    return Alarm(
        "latents-run-away" if size > high else "latents-collapse",
        f"the student's latents have a root mean square of {size:.3g} (limits {low:.2f} to {high:g}; a VAE's "
        "are near 1)",
        *diagnosis(recipe),
    )


def _teacher_distance(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    # The row has it as a share of the latents' size, which is small for a while under some strategies.
    absolute = [
        {"distance": row.get("teacher_distance", math.nan) * row.get("latent_size", math.nan)} for row in rows[-WINDOW:]
    ]
    distance = _median(absolute, "distance")
    if distance is None or distance <= TEACHER_DISTANCE:
        return None
    return Alarm(
        "teacher-far-away",
        f"the teacher's guided predictions lie {distance:.3g} from the student's latents (limit "
        f"{TEACHER_DISTANCE:g}; latents of images are of size 1)",
        *diagnosis(recipe, "kappa4"),
    )


def _gradients_explode(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    for network in ("generator", "fake_score"):
        norms = _finite(rows[-WINDOW - GRADIENT_ROWS :], f"{network}_gradient_norm")
        if len(norms) < 3 * WINDOW:
            continue
        before, now = statistics.median(norms[:-WINDOW]), statistics.median(norms[-WINDOW:])
        if now > GRADIENT_GROWTH * before > 0:
            return Alarm(
                "gradients-explode",
                f"the {_words(network)}'s gradient norm is {now:.3g}, {now / before:.0f} times its median before "
                f"(limit {GRADIENT_GROWTH:g} times)",
                *diagnosis(recipe),
            )
    return None


def _logits_saturated(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    share = _median(rows, "logits_saturated")
    if share is None or share <= SATURATED:
        return None
    return Alarm(
        "discriminator-saturated",
        f"{share:.0%} of the discriminator's logits are at the clamp (limit {SATURATED:.0%}), so that it passes no "
        "gradient on",
        f"its part of the fake score's loss is too large (lambda_d = {recipe.adversarial.get('lambda_d', 0):g})",
        "lower adversarial.lambda_d or fake_score_lr",
    )


def _discriminator_guesses(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    # Once the term is in the generator's loss, guessing is what the generator works for.
    learning = [row for row in rows if row.get("images_seen", 0) <= recipe.adversarial.get("join", 0)]
    accuracies = _accuracies(learning) if learning and learning[-1] is rows[-1] else None
    if accuracies is None or max(map(statistics.fmean, accuracies)) > GUESSING:
        return None
    return Alarm(
        "discriminator-guesses",
        f"the discriminator told at most {max(map(statistics.fmean, accuracies)):.0%} of real and generated images "
        f"apart in {DISCRIMINATOR_ROWS} rows (50% is a guess; limit {GUESSING:.0%}), before it is used",
        f"its part of the fake score's loss is too small (lambda_d = {recipe.adversarial.get('lambda_d', 0):g}), or "
        "the student's images are as good as the real ones",
        "raise adversarial.lambda_d, freeze or join; train without real images where the student's are as good",
    )


def _discriminator_certain(rows: Sequence[Row], recipe: Recipe) -> Alarm | None:
    joined = recipe.adversarial.get("join", 0)
    accuracies = _accuracies([row for row in rows if row.get("images_seen", 0) > joined])
    if accuracies is None or min(map(min, accuracies)) < CERTAIN:
        return None
    return Alarm(
        "discriminator-certain",
        f"the discriminator told at least {CERTAIN:.0%} of real and of generated images apart in "
        f"{DISCRIMINATOR_ROWS} rows with the adversarial term, so that the generator does not come closer",
        f"the term's weight is too small for the generator (lambda_g = {recipe.adversarial.get('lambda_g', 0):g}), or "
        f"too large for the fake score (lambda_d = {recipe.adversarial.get('lambda_d', 0):g})",
        "raise adversarial.lambda_g, lower lambda_d, or check that the real images are of the prompts' domain",
    )


def _accuracies(rows: Sequence[Row]) -> list[tuple[float, float]] | None:
    """(real, fake) of the last rows; None where there are too few."""
    both = [(row["real_accuracy"], row["fake_accuracy"]) for row in rows if "real_accuracy" in row]
    return both[-DISCRIMINATOR_ROWS:] if len(both) >= DISCRIMINATOR_ROWS else None


Check = Callable[[Sequence[Row], Recipe], Alarm | None]
FIRST_CHECKS: tuple[Check, ...] = (_large_steps, _nan_samples)
"""Where samples or weights are lost, nothing is trained any more, and what the other checks find would mislead."""
CHECKS: tuple[Check, ...] = (
    _fake_score_still,
    _generator_still,
    _fake_score_worse_than_nothing,
    _teacher_distance,
    _latent_size,
    _gradients_explode,
    _fake_score_drift,
    _logits_saturated,
    _discriminator_guesses,
    _discriminator_certain,
)


def diagnosis(recipe: Recipe, first: str = "") -> tuple[str, str]:
    """The likely cause of outputs out of bounds, and what to do: strong guidance, or else the learning rates.

    `first` is the scale that what was seen depends on most.
    """
    scales = zip(KAPPAS, recipe.guidance.scales, strict=True)
    strong = {name: value for name, value in scales if abs(value) > STRONG_GUIDANCE}
    if not strong:
        published = "5e-5 is published for adapters" if recipe.lora else "1e-6 is published"
        return (
            f"the learning rate is too high (lr = {recipe.lr:g}, fake_score_lr = {recipe.fake_score_lr:g})",
            f"start again with lr and fake_score_lr 10 to 1000 times lower ({published} for Stable Diffusion)",
        )
    names = sorted(strong, key=lambda name: name != first)
    values = ", ".join(f"{name} = {strong[name]:g}" for name in names)
    return (
        f"guidance is too strong ({values}; published runs take 1.5 to 4.5)",
        f"start again with {', '.join(names)} at {STRONG_GUIDANCE:g} or less",
    )


def _settling(rows: Sequence[Row], recipe: Recipe) -> bool:
    return recipe.precision == "fp16" and rows[-1]["iteration"] < FP16_SETTLES


def _or_skipped(recipe: Recipe) -> str:
    return ", or fp16 overflows and every step is skipped" if recipe.precision == "fp16" else ""


def _finite(rows: Sequence[Row], name: str) -> list[float]:
    return [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]


def _recent(rows: Sequence[Row], name: str) -> list[float] | None:
    """The finite numbers in the last `WINDOW` rows; None where fewer than half of them have one."""
    values = _finite(rows[-WINDOW:], name)
    return values if len(rows) >= WINDOW and len(values) > WINDOW // 2 else None


def _median(rows: Sequence[Row], name: str) -> float | None:
    values = _recent(rows, name)
    return None if values is None else statistics.median(values)


def _words(network: str) -> str:
    return network.replace("_", " ")
