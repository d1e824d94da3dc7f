"""Records as a person reads them on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from sidlsg.kubeflow.local.results import EvaluateResult, RunResult, SweepResult
from sidlsg.runtime.costs import Cost
from sidlsg.runtime.progress import PlainConsole
from sidlsg.stages.compare import main_scores
from sidlsg.storage.records import Promotion, Score, Scorecard, Verdict


def print_scores(card: Scorecard) -> None:
    """One row a score, one column a subject, the protocols below."""
    protocols = {score.name: score for subject in card.subjects for score in subject.scores}
    # Plain and narrow: headings break, so that four subjects fit 80 columns.
    table = Table(title="Scores", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    # Those whose pictures are shown; a teacher may have been scored in many more ways.
    drawn = {Path(ref.path).stem for ref in card.grids}
    shown = [each for each in card.subjects if each.subject.replace(" ", "_") in drawn] or list(card.subjects)
    for subject in shown:
        own = " *" if subject.subject in card.reused else ""
        table.add_column(subject.subject.replace(" ", "\n", 1) + own, justify="right")
    for name, score in protocols.items():
        values = ({each.name: each for each in subject.scores}.get(name) for subject in shown)
        cells = ("" if value is None else short(value.value) for value in values)
        table.add_row(f"{name} {'↑' if score.higher_is_better else '↓'}", *cells)
    console = PlainConsole()
    console.print(table)
    for name, score in protocols.items():
        console.print(f"  {name}: {score.protocol}, {score.n:,} images")
    others = [subject.subject for subject in card.subjects if subject not in shown]
    if others:
        console.print(f"  not shown here: {'; '.join(others)}")
    if {subject.subject for subject in shown} & set(card.reused):
        console.print("  * from the teacher's own scorecard: same files, protocol and reference")


def short(value: float) -> str:
    """Four digits; what is near 0 needs no more places than the others."""
    return f"{value:.4g}" if abs(value) >= 0.01 else f"{value:.4f}"


def print_verdict(verdict: Verdict) -> None:
    """Each rule with what was found, and the verdict."""
    console = PlainConsole()
    for rule in verdict.rules:
        mark = "passed" if rule.passed else "FAILED"
        console.print(f"  {mark}  {rule.rule}: {rule.found}", soft_wrap=True)
    word = "passed the gate" if verdict.passed else "did not pass the gate"
    console.print(f"Version {verdict.version} of {verdict.name} {word}.")


def print_summary(result: RunResult) -> None:
    """What a run found and where it is: scores, the gate, the champion, places."""
    console = PlainConsole()
    console.print()
    print_scores(result.scorecard)
    console.print("\nGate", style="italic")
    print_verdict(result.verdict)
    console.print(_champion(result.promotion), style="bold")
    print_cost(result.cost)
    console.print()
    places = {
        "report": result.report,
        "student": result.student,
        "scores": result.scorecard_folder / Scorecard.FILE,
        "registry": result.tracking_uri,
        "log": result.log,
    }
    for name, place in places.items():
        console.print(f"  {name:<9} {place}", soft_wrap=True)


def print_cost(cost: Cost) -> None:
    """One row a stage with its time, price and cost, and the sum; nothing where no price is known."""
    if not cost.priced:
        return
    table = Table(title="Cost", title_justify="left", box=None, padding=(0, 1, 0, 0))
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


def _champion(promotion: Promotion) -> str:
    if promotion.changed:
        before = f"version {promotion.previous_version} before" if promotion.previous_version else "the first"
        return f"Champion of {promotion.name} is now version {promotion.champion_version} ({before})."
    if promotion.champion_version is None:
        return f"{promotion.name} has no champion."
    return f"Champion of {promotion.name} stays version {promotion.champion_version}."


def print_sweep(result: SweepResult) -> None:
    """One row a setting with its main scores, the protocols below, and where everything is."""
    rows = [(each, {score.name: score for score in main_scores(each.scorecard)}) for each in result.settings]
    columns: dict[str, Score] = {}
    for _, scores in rows:
        columns = {**scores, **columns}
    # Plain and narrow: headings break, so that the embedded protocols' scores fit 80 columns.
    table = Table(box=None, padding=(0, 1, 0, 0))
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
    for name, score in columns.items():
        console.print(f"  {name}: {score.protocol}, {score.n:,} images")
    console.print()
    _print_places(
        console,
        {
            "scoreboard": result.scoreboard,
            "students": result.settings[0].student.parent,
            "scores": result.settings[0].scorecard_folder.parent,
            "registry": result.tracking_uri,
            "log": result.log,
        },
    )


def print_evaluation(result: EvaluateResult) -> None:
    """Scores, the gate, and where everything is."""
    console = PlainConsole()
    console.print()
    print_scores(result.scorecard)
    console.print("\nGate", style="italic")
    print_verdict(result.verdict)
    console.print()
    places = {"page": result.page, "scores": result.scorecard_folder / Scorecard.FILE, "log": result.log}
    _print_places(console, places)


def _print_places(console: PlainConsole, places: Mapping[str, object]) -> None:
    for name, place in places.items():
        console.print(f"  {name:<10} {place}", soft_wrap=True)


def _arrow(score: Score) -> str:
    return "↑" if score.higher_is_better else "↓"
