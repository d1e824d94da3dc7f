"""One generator, sampled in one way, under several suites of protocols: its pictures once, and all their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sidlsg.evaluate.keep import Keeper
from sidlsg.evaluate.scoring import Pass, measured
from sidlsg.evaluate.setting import Setting
from sidlsg.evaluate.suite import Suite, TextFit
from sidlsg.runtime.distributed import World
from sidlsg.storage.records import Score, StyleMean, SubjectScores
from sidlsg.storage.store import Store
from sidlsg.teacher.sampling import StockSampler


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where an evaluation is done, and what it leaves besides scores."""

    parts: Store
    """Receives what blocks of pictures gave, until the end."""
    world: World = field(default_factory=World)
    keep_images: str = ""
    """Folder or `s3://` prefix that receives the pictures; empty to keep none."""


def score_subject(
    name: str, sampler: StockSampler, setting: Setting, suites: Sequence[Suite], work: Work
) -> tuple[SubjectScores, TextFit | None]:
    """Draw everything that the suites ask for, and score it.

    Under several processes, each draws its share; the one that leads computes the scores, and the others give none.

    Args:
        name: of the subject.
        sampler: of the generator's folder.
        setting: how it is sampled.
        suites: what is asked.
        work: where.

    Returns:
        The scores, and how well each picture fits its prompt by the first suite that reads prompts.

    Raises:
        InputError: pictures cannot be kept where they should, or a network does not fit.
    """
    folder = name.replace(" ", "_").replace(",", "")
    keeper = Keeper(work.keep_images, name) if work.keep_images else None
    scores: list[Score] = []
    styles: list[StyleMean] = []
    fit: TextFit | None = None
    for suite in suites:
        values: dict[str, dict[str, Tensor]] = {}
        for drawn in suite.sets:
            how = Pass(
                draw=lambda prompts, seeds: sampler(prompts, seeds, setting),
                # A block that was measured without keeping its pictures is drawn again where they are to be kept.
                identity=f"{sampler.identity} {sampler.batch} {setting} {work.keep_images}",
                label=f"evaluate: {name}, {drawn.name}",
                parts=work.parts,
                folder=folder,
                world=work.world,
                keeper=keeper,
            )
            values[drawn.name] = measured(drawn, suite.measures(drawn), how)
        if work.world.leads:
            scores += suite.scores(values)
            styles += suite.styles(values)
            fit = fit or suite.text_fit(values)
    found = SubjectScores(
        subject=name,
        steps=setting.steps,
        guidance_scale=setting.guidance_scale,
        scores=tuple(scores),
        styles=tuple(styles),
    )
    return found, fit
