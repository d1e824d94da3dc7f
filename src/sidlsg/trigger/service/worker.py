"""From events to causes, and from causes to runs and copies: each once, whatever fails or is killed in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from sidlsg.errors import SidlsgError
from sidlsg.trigger.interface import PipelineRuns
from sidlsg.trigger.service.copies import copy_student
from sidlsg.trigger.service.event import Event
from sidlsg.trigger.service.ledger import OLD, WANTED, Cause, Ledger
from sidlsg.trigger.service.log import log
from sidlsg.trigger.service.look import all_causes, causes_of, prompt_set_at
from sidlsg.trigger.service.metrics import Metrics
from sidlsg.trigger.service.table import Table, Watch

LOOKED = "looked for "
"""Begins the facts that a rule was looked at once, and all that it asked for then was noted as old."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
_TICK_S = 1.0
_KEPT_S = 7 * 86400.0
"""How long a delivery's id is remembered at least; the window of time is much shorter."""


@dataclass
class _Pause:
    until: float
    length: float
    why: str


class Worker:
    """One thread that does what is to be done, in order, and tries again what failed."""

    def __init__(
        self,
        table: Table,
        ledger: Ledger,
        runs: PipelineRuns,
        tracking_uri: str,
        metrics: Metrics,
        poll_s: float,
        dry_run: bool = False,
    ) -> None:
        """Args:
        table: the rules.
        ledger: where events come from and causes go to.
        runs: starts runs.
        tracking_uri: where MLflow is.
        metrics: count what is done.
        poll_s: how often the registry is read for what no webhook told, in seconds.
        dry_run: only say what would be done.
        """
        self._table, self._ledger, self._runs = table, ledger, runs
        self._uri, self._metrics, self._poll_s, self._dry_run = tracking_uri, metrics, poll_s, dry_run
        self._pauses: dict[str, _Pause] = {}
        self._next_look = 0.0
        self._awake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work)

    def begin(self) -> None:
        """Note what is there already, the first time, and begin to work.

        Raises:
            SidlsgError: the registry cannot be read.
        """
        new = {name for name in self._table.names if not self._ledger.fact(f"{LOOKED}{name}")}
        if new:
            found = all_causes(self._table, self._uri) + [self._watched(watch) for watch in self._table.watch]
            old = self._ledger.add([cause for cause in found if cause and cause.rule in new], time.time(), OLD)
            for name in new:
                self._ledger.note(f"{LOOKED}{name}", str(time.time()))
            log("first look", rules=sorted(new), left_alone=len(old))
        self._next_look = time.monotonic() + self._poll_s
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._awake.set()

    def end(self) -> None:
        """Finish what is being done, and no more."""
        self._over.set()
        self._awake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                self.step()
            except Exception as error:  # one that nobody thought of must not end the service in silence
                log("failed", why=f"{type(error).__name__}: {error}")
            self._awake.wait(_TICK_S)
            self._awake.clear()

    def step(self) -> None:
        """Do what can be done now."""
        for number, event in self._ledger.events():
            self._try(f"event {number}", partial(self._resolve, event, number))
        if time.monotonic() >= self._next_look:
            self._try("look", self._look)
        for cause in self._ledger.wanted():
            if self._over.is_set():
                return
            self._try(cause.name, partial(self._act, cause))
        self._metrics.wanted.set(len(self._ledger.wanted()))

    def _try(self, what: str, work: Callable[[], None]) -> None:
        pause = self._pauses.get(what)
        if pause and time.monotonic() < pause.until:
            return
        try:
            work()
            self._pauses.pop(what, None)
        except Exception as error:  # each fails alone, whatever it is: the others go on
            length = min(2 * pause.length, _LONGEST_PAUSE_S) if pause else _FIRST_PAUSE_S
            self._pauses[what] = _Pause(time.monotonic() + length, length, _reason(error))
            log("will be tried again", what=what, seconds=length, why=_reason(error))
        self._metrics.failing.set(len(self._pauses))

    def failing(self) -> dict[str, str]:
        """What failed when it was last tried, and why."""
        return {what: pause.why for what, pause in self._pauses.copy().items()}

    def _resolve(self, event: Event, number: int) -> None:
        causes = causes_of(event, self._table, self._uri)
        self._new(self._ledger.add(causes, time.time(), WANTED, number))

    def _look(self) -> None:
        self._new(self._ledger.add(all_causes(self._table, self._uri), time.time(), WANTED))
        for watch in self._table.watch:
            try:
                cause = self._watched(watch)
            except SidlsgError as error:
                # The others are looked at all the same.
                log("not looked at", rule=watch.name, why=str(error))
                continue
            self._new(self._ledger.add([cause] if cause else [], time.time(), WANTED))
        self._next_look = time.monotonic() + self._poll_s
        self._metrics.looked.set(time.time())
        self._ledger.prune(time.time() - _KEPT_S)

    def _watched(self, watch: Watch) -> Cause | None:
        digest = prompt_set_at(watch.place)
        return watch.cause(digest) if digest else None

    def _new(self, causes: list[Cause]) -> None:
        for cause in causes:
            self._metrics.causes.labels(rule=cause.rule).inc()
            log("cause", name=cause.name, rule=cause.rule, what=cause.what)

    def _act(self, cause: Cause) -> None:
        kind = next(iter(cause.action))
        if self._dry_run:
            self._ledger.done(cause.name, "dry run")
            log("would be done", name=cause.name, rule=cause.rule, what=cause.what, action=cause.action)
            return
        try:
            result = self._run(cause) if kind == "run" else self._copy(cause.action["copy"])
        except Exception as error:
            self._metrics.actions.labels(kind=kind, result="failed").inc()
            self._ledger.failed(cause.name, _reason(error))
            raise
        self._ledger.done(cause.name, result)
        self._metrics.actions.labels(kind=kind, result="done").inc()
        log("done", name=cause.name, rule=cause.rule, what=cause.what, kind=kind, result=result)

    def _run(self, cause: Cause) -> str:
        wanted = cause.action["run"]
        # Whoever died after the server made the run, and before the ledger knew of it, left a run of this name.
        run = self._runs.find(cause.name) or self._runs.start(
            cause.name, wanted["pipeline"], wanted["version"], wanted["parameters"]
        )
        return run.run_id

    def _copy(self, wanted: Mapping[str, str]) -> str:
        return copy_student(wanted["model"], wanted["version"], wanted["alias"], wanted["to"], self._uri)


def _reason(error: Exception) -> str:
    """What an error says, for a user where it was made for one."""
    return str(error) if isinstance(error, SidlsgError) else f"{type(error).__name__}: {error}"
