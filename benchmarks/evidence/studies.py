"""What is trained for each study: trainings by label."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from sidlsg.distil.recipes import get_recipe

RECIPE = get_recipe("scenes")
BATCH, LR = RECIPE.batch, RECIPE.lr
IMAGES = 8_320
"""Images of a training, unless a study is about their number."""
KAPPAS = (1.2, 1.5, 2.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training of the recipe `scenes` with changes; two that are equal are trained once."""

    strategy: str = "lsg"
    scale: float = 1.5
    """κ of `lsg`, κ4 of `long`, κ2 = κ3 of `short`; `none` has no scale."""
    images: int = IMAGES
    batch: int = BATCH
    lr: float = LR
    steps: int = 1
    adapter_rank: int = 0
    """Rank of the adapters that are trained; 0 trains all weights."""
    least_score: float = 6.0
    """Aesthetic score of the prompts, at least."""
    curve: bool = False
    """Whether the student is scored on its way, with grids."""
    from_student: bool = False
    """Whether it continues the student of the same training and seed, at a fifth of the learning rate."""
    real_images: bool = False

    @property
    def changes(self) -> dict[str, object]:
        """The recipe's values that it sets."""
        scale = {"lsg": "kappa", "long": "kappa4", "short": "kappa_eval"}.get(self.strategy)
        values: dict[str, object] = {
            "strategy": self.strategy,
            "scales": {scale: self.scale} if scale else {},
            "iterations": self.images // self.batch,
            "batch": self.batch,
            "micro_batch": min(self.batch, BATCH),
            "lr": self.lr / 5 if self.from_student else self.lr,
            "fake_score_lr": self.lr,
            "evaluate_every": self.images // 8 if self.curve else 0,
            "evaluate_images": min(2016, self.images),
            "grids": 8 if self.curve else 1,
            "processes": 1,
            "threads": 1,
            "on_alarm": "warn",
        }
        if self.steps > 1:
            values |= {"steps": self.steps, "step_noise": "ddim"}
        if self.adapter_rank:
            values["adapter"] = {"rank": self.adapter_rank}
        if self.real_images:
            values["adversarial"] = {"lambda_d": 1.0, "lambda_g": 0.1, "freeze": 1664, "join": 1664}
        return values

    @property
    def start(self) -> Training | None:
        """The training whose student of the same seed this one starts from."""
        return replace(self, from_student=False, real_images=False) if self.from_student else None

    @property
    def name(self) -> str:
        """A folder's name, unlike that of any other training."""
        digest = hashlib.sha256(json.dumps([self.changes, self.least_score, self.from_student]).encode()).hexdigest()
        return f"{self.strategy}-{self.scale:g}-{digest[:8]}"


def lsg(kappa: float, **more: object) -> Training:
    """Long-short guidance."""
    return Training(scale=kappa, **more)  # type: ignore[arg-type]


NONE = Training(strategy="none", scale=1.0)
LONG = {f"κ4 = {kappa:g}": Training(strategy="long", scale=kappa) for kappa in KAPPAS}
SHORT = {f"κ2 = κ3 = {kappa:g}": Training(strategy="short", scale=kappa) for kappa in (0.8, 0.6, 0.4)}
LSG = {f"κ = {kappa:g}": lsg(kappa) for kappa in KAPPAS}

LONGEST = lsg(1.5, images=8 * IMAGES, curve=True)

STUDIES: dict[str, dict[str, Training]] = {
    "length": {f"{each.images:,} images": each for each in (lsg(1.5), lsg(1.5, images=4 * IMAGES), LONGEST)},
    "long": {"none": NONE, **LONG},
    "short": {"none": NONE, **SHORT},
    "lsg": {"none": NONE, **LSG},
    "batch": {f"batch {batch}": lsg(1.5, batch=batch) for batch in (32, 64, 128)},
    "learning rate": {f"lr {lr:g}": lsg(1.5, lr=lr) for lr in (LR / 2, LR, 2 * LR)},
    "prompts": {f"score ≥ {least:g}": lsg(1.5, least_score=least) for least in (6.0, 7.4, 7.48)},
    "adapters": {"all weights": lsg(1.5), "adapters of rank 16": lsg(1.5, adapter_rank=16, lr=4 * LR)},
    "steps": {f"K = {steps}": lsg(1.5, steps=steps) for steps in (1, 2, 4)},
    "real images": {
        "before": NONE,
        "continued": replace(NONE, from_student=True),
        "continued with real images": replace(NONE, from_student=True, real_images=True),
    },
}
"""Trainings by study and label."""
SETUP = {
    "long": "κ4 guides the teacher; the fake score has no guidance.",
    "short": "κ2 and κ3 guide the fake score in the student's loss; neither the teacher nor the fake score's own "
    "training is guided.",
    "batch": "As many images in larger batches are fewer updates; the learning rate is the same.",
    "learning rate": "It is that of the student and of the fake score.",
    "adapters": "Adapters have four times the learning rate, as they need more.",
    "steps": "Each iteration trains one of the K steps; noise between them is DDIM's.",
    "real images": f"A student without guidance trains on for {IMAGES:,} images, at a fifth of its learning rate, "
    "with the adversarial term or without. Guidance is left out because it moves the student away from real images.",
}
"""In what a study's students differ from the others, where its labels do not say it."""
