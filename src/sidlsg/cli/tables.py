"""Records on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from sidlsg.kubeflow.local.results import EvaluateResult, RunResult, SweepResult
from sidlsg.runtime.costs import Cost
from sidlsg.runtime.progress import PlainConsole
from sidlsg.stages.sweep_results import main_scores
from sidlsg.storage.records import Promotion, Score, Scorecard, Verdict


def print_scores(card: Scorecard) -> None:
    """Print one row per score, one column per subject, and the protocols."""
    protocols = {score.name: score for subject in card.subjects for score in subject.scores}
    table = _table("Scores")
    table.add_column("", no_wrap=True)
    # Subjects with a grid; a teacher may be scored in many more settings.
    grids = {Path(ref.path).stem for ref in card.grids}
    shown = [each for each in card.subjects if each.subject.replace(" ", "_") in grids] or list(card.subjects)
    for subject in shown:
        own = " *" if subject.subject in card.reused else ""
        table.add_column(subject.subject.replace(" ", "\n", 1) + own, justify="right")
    for name, score in protocols.items():
        values = ({each.name: each for each in subject.scores}.get(name) for subject in shown)
        cells = ("" if value is None else short(value.value) for value in values)
        table.add_row(f"{name} {_arrow(score)}", *cells)
    console = PlainConsole()
    console.print(table)
    _print_protocols(console, protocols)
    others = [subject.subject for subject in card.subjects if subject not in shown]
    if others:
        console.print(f"  not shown here: {'; '.join(others)}")
    if {subject.subject for subject in shown} & set(card.reused):
        console.print("  * from the teacher's own scorecard: same files, protocol and reference")


def short(value: float) -> str:
    """Four significant digits, at most four decimals."""
    return f"{value:.4g}" if abs(value) >= 0.01 else f"{value:.4f}"


def print_verdict(verdict: Verdict) -> None:
    """Print each rule with its finding, and the verdict."""
    console = PlainConsole()
    for rule in verdict.rules:
        mark = "passed" if rule.passed else "FAILED"
        console.print(f"  {mark}  {rule.rule}: {rule.found}", soft_wrap=True)
    word = "passed the gate" if verdict.passed else "did not pass the gate"
    console.print(f"Version {verdict.version} of {verdict.name} {word}.")


def print_summary(result: RunResult) -> None:
    """Print a run's scores, verdict, champion, costs and output paths."""
    console = PlainConsole()
    console.print()
    print_scores(result.scorecard)
    console.print("\nGate", style="italic")
    print_verdict(result.verdict)
    console.print(champion(result.promotion), style="bold")
    print_cost(result.cost)
    console.print()
    _print_outputs(
        console,
        report=result.page,
        student=result.student,
        scores=result.scorecard_folder / Scorecard.FILE,
        registry=result.tracking_uri,
        log=result.log,
    )


def print_cost(cost: Cost) -> None:
    """Print time, price and cost of each stage, and the sum; nothing if no price is given."""
    if not cost.priced:
        return
    table = _table("Cost")
    table.add_column("", no_wrap=True)
    for heading in ("time", "an hour", "cost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in (*cost.stages, cost.total):
        table.add_row(row.stage, row.time, row.price or "-", row.cost or "-")
    console = PlainConsole()
    console.print()
    console.print(table)
    if cost.unpriced:
        console.print(f"  without a price, and not in the sum: {', '.join(cost.unpriced)}")


def champion(promotion: Promotion) -> str:
    """Which version is the champion, in a line."""
    if promotion.changed:
        before = f"version {promotion.previous_version} before" if promotion.previous_version else "the first"
        return f"Champion of {promotion.name} is now version {promotion.champion_version} ({before})."
    if promotion.champion_version is None:
        return f"{promotion.name} has no champion."
    return f"Champion of {promotion.name} stays version {promotion.champion_version}."


def print_sweep(result: SweepResult) -> None:
    """Print one row per setting with its main scores, the protocols, and output paths."""
    rows = [(each, {score.name: score for score in main_scores(each.scorecard)}) for each in result.settings]
    columns: dict[str, Score] = {}
    for _, scores in rows:
        columns = {**scores, **columns}
    table = _table()
    table.add_column("setting", no_wrap=True)
    for name, score in columns.items():
        table.add_column(f"{name.replace('_', chr(10))} {_arrow(score)}", justify="right")
    table.add_column("version", justify="right")
    for each, scores in rows:
        cells = (short(scores[name].value) if name in scores else "" for name in columns)
        table.add_row(each.setting, *cells, str(each.version.version))
    console = PlainConsole()
    console.print()
    console.print(table)
    _print_protocols(console, columns)
    console.print()
    _print_outputs(
        console,
        scoreboard=result.page,
        students=result.settings[0].student.parent,
        scores=result.settings[0].scorecard_folder.parent,
        registry=result.tracking_uri,
        log=result.log,
    )


def print_evaluation(result: EvaluateResult) -> None:
    """Print scores, verdict, and output paths."""
    console = PlainConsole()
    console.print()
    print_scores(result.scorecard)
    console.print("\nGate", style="italic")
    print_verdict(result.verdict)
    console.print()
    _print_outputs(console, page=result.page, scores=result.scorecard_folder / Scorecard.FILE, log=result.log)


def _table(title: str | None = None) -> Table:
    # Narrow, so that four subjects fit 80 columns.
    return Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))


def _print_protocols(console: PlainConsole, scores: Mapping[str, Score]) -> None:
    for name, score in scores.items():
        console.print(f"  {name}: {score.protocol}, {score.n:,} images")


def _print_outputs(console: PlainConsole, **outputs: object) -> None:
    for name, uri in outputs.items():
        console.print(f"  {name:<10} {uri}", soft_wrap=True)


def _arrow(score: Score) -> str:
    return "↑" if score.higher_is_better else "↓"
