"""Records as a person reads them on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from sidlsg.records import Scorecard, Verdict


def print_scores(card: Scorecard) -> None:
    """One row a subject, one column a score, the protocols below."""
    protocols = {score.name: score for subject in card.subjects for score in subject.scores}
    table = Table(title="Scores", title_justify="left")
    table.add_column("")
    for name, score in protocols.items():
        table.add_column(f"{name} {'↑' if score.higher_is_better else '↓'}", justify="right")
    for subject in card.subjects:
        values = {score.name: f"{score.value:.4g}" for score in subject.scores}
        own = " *" if subject.subject in card.reused else ""
        table.add_row(subject.subject + own, *(values.get(name, "") for name in protocols))
    console = Console()
    console.print(table)
    for name, score in protocols.items():
        console.print(f"  {name}: {score.protocol}, {score.n:,} images", highlight=False)
    if card.reused:
        console.print("  * from the teacher's own scorecard: same files, protocol and reference", highlight=False)


def print_verdict(verdict: Verdict) -> None:
    """Each rule with what was found, and the verdict."""
    console = Console()
    for rule in verdict.rules:
        mark = "passed" if rule.passed else "FAILED"
        console.print(f"  {mark}  {rule.rule}: {rule.found}", highlight=False)
    word = "passed the gate" if verdict.passed else "did not pass the gate"
    console.print(f"Version {verdict.version} of {verdict.name} {word}.", highlight=False)
