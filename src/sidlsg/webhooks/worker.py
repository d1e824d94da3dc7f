"""Turns events into causes, and causes into runs, copies and rollouts: each once, whatever fails or is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlflow import MlflowClient

from sidlsg.kubeflow.server.runs import Kubeflow
from sidlsg.registry.connection import connect, server_at
from sidlsg.runtime.deadline import deadline
from sidlsg.runtime.errors import SidlsgError
from sidlsg.webhooks.copies import copy_model
from sidlsg.webhooks.ledger import OLD, WANTED, Cause, Event, Ledger
from sidlsg.webhooks.registry import all_causes, causes_of, prompt_set_at
from sidlsg.webhooks.rollout import ROLLED_BACK, Rollouts, first_of_each_service, rolled_back
from sidlsg.webhooks.rules import Table, WatchRule
from sidlsg.webhooks.telemetry import WebhookMetrics, log

REGISTRY, KUBEFLOW, SCAN = "reach MLflow", "reach Kubeflow Pipelines", "scan the registry"
"""What may fail besides events and causes, for people."""
SCANNED = "looked for "
"""Begins the ledger's note that a rule's first scan was made, whose causes are old."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 300.0
_LONGEST_WAIT_S = 15.0
"""Longest pause before a server that is away is asked again: all that needs it waits for it."""
_EVENT_S, _SCAN_S = 30.0, 600.0
"""Seconds that MLflow has for the requests about one event, and for those of a scan of the whole registry."""
_TICK_S = 1.0
_KEPT_S = 7 * 86400.0
"""How long a delivery's id is remembered; the window of its timestamp is much shorter."""


@dataclass
class _Pause:
    until: float
    length: float
    why: str


class Worker:
    """A thread that acts on events and causes in order, and tries again what failed."""

    def __init__(
        self,
        table: Table,
        ledger: Ledger,
        runs: Kubeflow,
        tracking_uri: str,
        metrics: WebhookMetrics,
        poll_s: float,
        dry_run: bool = False,
    ) -> None:
        """`poll_s` is the time between two scans of the registry for what no webhook delivered; `dry_run` only logs."""
        self._table, self._ledger, self._runs = table, ledger, runs
        self._uri, self._metrics, self._poll_s, self._dry_run = tracking_uri, metrics, poll_s, dry_run
        self._rollouts = Rollouts(tracking_uri)
        self._pauses: dict[str, _Pause] = {}
        self._next_scan = 0.0
        self._awake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work)

    def begin(self) -> None:
        """Record what a new rule finds as old, and start the thread.

        Raises:
            SidlsgError: the registry cannot be read.
        """
        self._ledger.forget_failures()
        new = {name for name in self._table.names if not self._ledger.fact(f"{SCANNED}{name}")}
        if new:
            found = self._found(connect(self._uri))
            for watch in self._table.watch:
                try:
                    cause = self._watched(watch)
                except SidlsgError as error:
                    # Its bucket may come later: the rule waits.
                    log("not scanned", rule=watch.name, why=str(error))
                    new.discard(watch.name)
                else:
                    found += [cause] if cause else []
            old = self._ledger.add([cause for cause in found if cause.rule in new], time.time(), OLD)
            for name in new:
                self._ledger.note(f"{SCANNED}{name}", str(time.time()))
            log("first scan", rules=sorted(new), left_alone=len(old))
        self._next_scan = time.monotonic() + self._poll_s
        self._thread.start()

    def wake(self) -> None:
        """Work now: there is a new event."""
        self._awake.set()

    def end(self) -> None:
        """Finish the present action, and stop."""
        self._over.set()
        self._awake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                self.step()
            except Exception as error:  # an unforeseen error must not end the service silently
                log("failed", why=f"{type(error).__name__}: {error}")
            self._awake.wait(_TICK_S)
            self._awake.clear()

    def step(self) -> None:
        """Do everything that is due."""
        self._read()
        wanted = self._ledger.wanted()
        self._metrics.wanted.set(len(wanted))
        # What waits for a server that was away is due as soon as the server answers.
        if KUBEFLOW in self._pauses and any("run" in cause.action for cause in wanted):
            self._try(KUBEFLOW, self._runs.ready)
        if REGISTRY in self._pauses and any({"copy", "serve"} & set(cause.action) for cause in wanted):
            self._try(REGISTRY, self._connect)
        away = not self._is_due(KUBEFLOW)
        for cause in first_of_each_service(wanted):
            if self._over.is_set():
                return
            runs = "run" in cause.action
            if (away and runs) or not self._is_due(cause.name):
                continue
            if self._try(cause.name, partial(self._act, cause)):
                if runs:
                    self._worked(KUBEFLOW)
            elif runs:
                # It fails alone, unless the server is away: then the other runs do not wait for it too.
                away = not self._try(KUBEFLOW, self._runs.ready)
        self._metrics.wanted.set(len(self._ledger.wanted()))
        self._metrics.failing.set(len(self.failing()))

    def _read(self) -> None:
        """Resolve the events, and scan the registry if it is time; nothing while MLflow is away."""
        events = {event: numbers for event, numbers in self._ledger.events().items() if self._is_due(str(event))}
        scans = time.monotonic() >= self._next_scan and self._is_due(SCAN)
        if not (events or scans) or not self._try(REGISTRY, self._connect):
            return
        for event, numbers in events.items():
            if self._over.is_set():
                return
            done = self._try(str(event), partial(self._resolve, event, numbers))
            if not done and not self._try(REGISTRY, self._connect):
                return
        if scans:
            self._try(SCAN, self._scan)

    def _is_due(self, what: str) -> bool:
        pause = self._pauses.get(what)
        return pause is None or time.monotonic() >= pause.until

    def _try(self, what: str, work: Callable[[], None]) -> bool:
        """Do something, unless it failed a short time ago. Returns whether it was done."""
        if not self._is_due(what):
            return False
        try:
            work()
        except Exception as error:  # each fails alone, whatever the error
            # An error of ours is written for users.
            self._failed(what, str(error) if isinstance(error, SidlsgError) else f"{type(error).__name__}: {error}")
            return False
        self._worked(what)
        return True

    def _failed(self, what: str, why: str) -> None:
        before = self._pauses.get(what)
        longest = _LONGEST_WAIT_S if what in (REGISTRY, KUBEFLOW) else _LONGEST_PAUSE_S
        length = min(2 * before.length, longest) if before else _FIRST_PAUSE_S
        self._pauses[what] = _Pause(time.monotonic() + length, length, why)
        log("will be tried again", what=what, seconds=length, why=why)
        self._ledger.failed(what, why, time.time() + length)

    def _worked(self, what: str) -> None:
        if what not in self._pauses:
            return
        # What failed because a server was away does not wait longer than for the server.
        for one in list(self._pauses) if what in (REGISTRY, KUBEFLOW) else [what]:
            del self._pauses[one]
            self._ledger.worked(one)

    def failing(self) -> dict[str, str]:
        """What failed last or was rolled back, and why."""
        return rolled_back(self._ledger) | {what: pause.why for what, pause in self._pauses.copy().items()}

    def _connect(self) -> None:
        self._client = connect(self._uri)

    def _resolve(self, event: Event, numbers: list[int]) -> None:
        with deadline(_EVENT_S, server_at(self._uri)):
            causes = causes_of(self._client, event, self._table, self._uri)
        self._new(self._ledger.add(causes, time.time(), WANTED, numbers))

    def _found(self, client: MlflowClient) -> list[Cause]:
        with deadline(_SCAN_S, server_at(self._uri)):
            return all_causes(client, self._table, self._uri)

    def _scan(self) -> None:
        self._new(self._ledger.add(self._found(self._client), time.time(), WANTED))
        for watch in self._table.watch:
            try:
                cause = self._watched(watch)
            except SidlsgError as error:
                log("not scanned", rule=watch.name, why=str(error))
                continue
            self._new(self._ledger.add([cause] if cause else [], time.time(), WANTED))
        self._next_scan = time.monotonic() + self._poll_s
        self._metrics.scanned.set(time.time())
        self._ledger.prune(time.time() - _KEPT_S)

    def _watched(self, watch: WatchRule) -> Cause | None:
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
            result = self._result(kind, cause)
        except Exception:
            self._metrics.actions.labels(kind=kind, result="failed").inc()
            raise
        if result is None:
            return
        self._ledger.done(cause.name, result)
        outcome = ROLLED_BACK if kind == "serve" and result.startswith(ROLLED_BACK) else "done"
        self._metrics.actions.labels(kind=kind, result=outcome).inc()
        log("done", name=cause.name, rule=cause.rule, what=cause.what, kind=kind, result=result)

    def _result(self, kind: str, cause: Cause) -> str | None:
        """Take a cause's action; None for a rollout without a result yet, whose next step comes with the next round."""
        if kind == "serve":
            return self._rollouts.step(cause)
        wanted = cause.action[kind]
        if kind == "copy":
            return copy_model(wanted["model"], wanted["version"], wanted["alias"], wanted["to"], self._uri).uri
        # A service that was killed after the server made the run, and before the ledger knew, left a run of this name.
        return self._runs.start(cause.name, wanted["pipeline"], wanted["version"], wanted["parameters"]).run_id
