"""Writes the report of a run: one HTML file that loads nothing, from the records and files of its stages."""

from __future__ import annotations

from pathlib import Path

from sidlsg.report import scores, training
from sidlsg.report.contenders import Entry
from sidlsg.report.lineage import chain, digests, funnel_rows, made_with, recipe_values
from sidlsg.report.outcome import RunRecords, outcome
from sidlsg.report.page import render
from sidlsg.report.pictures import sample_strip, subject_grids
from sidlsg.report.scoreboard import scoreboard as board_of
from sidlsg.runtime import cost
from sidlsg.runtime.costs import Prices
from sidlsg.storage.files import atomic_write
from sidlsg.storage.records import ModelVersion, Promotion, PromptSet, Scorecard, Student, Verdict

TEMPLATE = "report.html"


def write_report(
    prompts: Path,
    student: Path,
    scorecard: Path,
    version: ModelVersion,
    verdict: Verdict,
    promotion: Promotion,
    seconds: dict[str, float],
    prices: Prices,
    output: Path,
) -> None:
    """Write the report of a run.

    Equal inputs give equal bytes.

    Args:
        prompts: folder of a PromptSet; its record is all that is read.
        student: folder of a Student; see `Student.account` for what is read of it.
        scorecard: folder of a Scorecard.
        version: the student in the registry.
        verdict: the gate's.
        promotion: what followed from it.
        seconds: what each stage took, in the order of the stages.
        prices: of an hour of each.
        output: the HTML file.

    Raises:
        InputError: a record is missing, its files differ from it, the records are not of one run, or a number is
            negative. Nothing is written then.
    """
    records = RunRecords(
        prompts=PromptSet.load(prompts),
        student=Student.load(student),
        version=version,
        scorecard=Scorecard.load(scorecard),
        verdict=verdict,
        promotion=promotion,
    )
    records.student.verify_files(student, records.student.account)
    records.scorecard.verify(scorecard)
    records.check()
    generated, reference = subject_grids(records.scorecard, scorecard)
    log, evaluations = records.student.training_log.path, records.student.evaluations
    along = [] if evaluations is None else training.read_training_log(student / evaluations.path)
    html = render(
        TEMPLATE,
        records=records,
        outcome=outcome(records),
        generated=generated,
        reference=reference,
        scores=scores.score_table(records.scorecard),
        board=board_of([Entry(label=version.name, card=records.scorecard, folder=scorecard)]),
        training=None if "://" in log else training.training(training.read_training_log(student / log), along),
        strip=sample_strip(records.student.grids, student),
        chain=chain(records),
        digests=digests(records),
        made_with=made_with(records.student),
        recipe_values=recipe_values(records.student),
        funnel=funnel_rows(records.prompts.funnel),
        cost=cost.cost(seconds, prices),
    )
    atomic_write(output, html)
