"""From an intent to its run, once, whatever fails or is killed in between."""

from __future__ import annotations

from collections.abc import Callable

from sidlsg.errors import SidlsgError
from sidlsg.trigger.interface import PipelineRuns
from sidlsg.trigger.service.ledger import Ledger


def start_wanted(ledger: Ledger, runs: PipelineRuns, report: Callable[[str], None]) -> int:
    """Start the runs that are wanted and not there; call it again for those that the server refused.

    A process that dies after the server made the run and before the ledger knows it leaves the intent: the next
    call finds the run by its name and starts no other.

    Returns:
        How many intents still have no run.
    """
    left = 0
    for intent in ledger.unstarted():
        try:
            run = runs.find(intent.name) or runs.start(intent.name, intent.pipeline, intent.version, intent.parameters)
        except SidlsgError as error:
            left += 1
            report(f"{intent.name}: not started, will be tried again: {error}")
            continue
        ledger.started(intent.name, run.run_id)
        report(f"{intent.name}: run {run.run_id}")
    return left
