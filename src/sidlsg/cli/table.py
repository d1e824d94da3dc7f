"""What a sweep and an evaluation found, as a person reads it on the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from sidlsg.cli.tables import print_scores, print_verdict, short
from sidlsg.kubeflow.local.results import EvaluateResult, SweepResult
from sidlsg.runtime.console import PlainConsole
from sidlsg.stages.compare import main_scores
from sidlsg.storage.records import Score, Scorecard


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
