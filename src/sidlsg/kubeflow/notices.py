"""The last step of a run: it sends one notice where the run failed or its gate rejected a version."""

from __future__ import annotations

import html
import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import quote

from sidlsg.kubeflow.nodes.cluster import Cluster, ClusterTimeouts
from sidlsg.kubeflow.nodes.monitor import state_of
from sidlsg.kubeflow.profile import RUN_LABEL, STAGE_LABEL
from sidlsg.runtime.deadline import deadline
from sidlsg.runtime.errors import InputError, MissingError, SidlsgError, StorageError, first_line
from sidlsg.runtime.formatting import plain_line
from sidlsg.runtime.parsing import http_address
from sidlsg.runtime.progress import note
from sidlsg.runtime.provenance import NOTICE_VARIABLE, PAGES_VARIABLE, checkpoints_place
from sidlsg.storage.uri import open_store

LONGEST = 1000
"""Characters of an error."""
LONGEST_RULE = 300
MOST_RULES = 20
NOTIFY = "notify"
"""The stage that sends the notice."""
CONTAINER = "main"
"""The container that runs a step."""
LAST_LINES = 200
TRY_S = 30.0
"""Seconds of one try."""
PAUSES = (2.0, 10.0, 60.0)
"""Seconds before each further try."""
AGAIN = (408, 425, 429)
"""Codes below 500 after which the same request may succeed later."""
SUCCEEDED = ("SUCCEEDED", "COMPLETE", "CACHED")
"""Kubeflow Pipelines' words for a group of steps that all succeeded."""
CANCELLED = ("CANCELLED", "CANCELED")
SENT = "notices"
"""Folder of the marks of sent notices, below the checkpoints."""
_TIMEOUTS = ClusterTimeouts(total=60.0, reach=30.0)
_ERROR = re.compile(r"(?:\w+\.)*(\w*(?:Error|Exception|Interrupt)): (\S.*)")
"""The last line of a Python traceback."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A version that the gate rejected."""

    name: str
    version: int
    rules: tuple[str, ...]
    """The failed rules, each with the value found."""
    awaits_approval: bool = False
    """Whether an approval is all that it lacks."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One failed or rejected run."""

    kind: Literal["failed", "rejected"]
    pipeline: str
    run: str
    run_url: str = ""
    """Empty if the address of Kubeflow's pages is unknown."""
    step: str = ""
    """The failed step; empty if it is unknown."""
    error: str = ""
    rejected: tuple[Rejected, ...] = ()

    @property
    def id(self) -> str:
        """The same for every try to send the notice of this run."""
        return f"sidlsg-{self.run}"

    def payload(self) -> dict[str, Any]:
        """The JSON object to send: every text is one plain line within its bound."""

        def line(text: str) -> str:
            return plain_line(text, LONGEST_RULE)

        cleaned = replace(
            self,
            pipeline=line(self.pipeline),
            run=line(self.run),
            step=line(self.step),
            error=plain_line(self.error, LONGEST),
            rejected=tuple(
                replace(each, name=line(each.name), rules=tuple(map(line, each.rules[:MOST_RULES])))
                for each in self.rejected
            ),
        )
        # Slack's markup begins with &, < and >; mrkdwn=false turns the rest off.
        return {"id": cleaned.id, **asdict(cleaned), "text": html.escape(cleaned.text, quote=False), "mrkdwn": False}

    @property
    def text(self) -> str:
        """The notice for people, in a few lines."""
        lines = []
        if self.kind == "failed":
            where = f" in step {self.step}" if self.step else ""
            lines.append(f"{self.pipeline} failed{where}: {self.error}")
        for each in self.rejected:
            version = f"version {each.version} of {each.name}"
            outcome = f"{version} awaits an approval" if each.awaits_approval else f"the gate rejected {version}"
            lines.append(f"{self.pipeline}: {outcome}")
            lines += [f"- {rule}" for rule in each.rules]
        lines.append(f"Run {self.run}" + (f": {self.run_url}" if self.run_url else ""))
        return "\n".join(lines)


def failed_step(run: str) -> tuple[str, str]:
    """The step of a run that failed last, empty if it is unknown, and its error. Never raises."""
    try:
        cluster = Cluster(timeouts=_TIMEOUTS)
        pods = [pod for pod in cluster.pods(f"{RUN_LABEL}={run}") if _failed(pod)]
        if not pods:
            return "", "no pod of the run has the reason: see the run's page"
        pod = max(pods, key=_end)
        step, log = pod["metadata"]["labels"][STAGE_LABEL], ""
        try:
            log = cluster.log(pod["metadata"]["name"], CONTAINER, tail=LAST_LINES)
        except SidlsgError as error:
            return step, f"{state_of(pod, CONTAINER)} (its log: {first_line(error)})"
    except SidlsgError as error:
        return "", f"the step is not known: {first_line(error)}"
    return step, _raised(log) or state_of(pod, CONTAINER)


def _failed(pod: dict[str, Any]) -> bool:
    labels = pod.get("metadata", {}).get("labels", {})
    # An earlier attempt of this step is not why the run failed.
    return bool(labels.get(STAGE_LABEL, NOTIFY) != NOTIFY and pod.get("status", {}).get("phase") == "Failed")


def _end(pod: dict[str, Any]) -> str:
    """When a pod's step ended; empty if it is unknown."""
    statuses = pod["status"].get("containerStatuses") or []
    ended = [(each.get("state") or {}).get("terminated") or {} for each in statuses if each["name"] == CONTAINER]
    return str(ended[0].get("finishedAt", "")) if ended else ""


def _raised(log: str) -> str:
    """The last error in a log whose lines begin with their times; empty if there is none."""
    lines = (line.partition(" ")[2].strip() for line in reversed(log.splitlines()))
    found = next((match for line in lines if (match := _ERROR.fullmatch(line))), None)
    return f"{found[1]}: {found[2]}" if found else ""


def check_webhook(url: str) -> str:
    """The scheme and the host of a webhook's URL, for messages: its path may be secret.

    Raises:
        InputError: it is not an http(s) URL, or contains a login.
    """
    parts = http_address(url)
    if parts is None or "@" in parts.netloc:
        raise InputError(
            f"{NOTICE_VARIABLE} holds no webhook's URL (its value is not shown); put http(s)://HOST/PATH, without a "
            "login, in the Secret that the profile names"
        )
    return f"{parts.scheme}://{parts.netloc}"


def send(url: str, payload: dict[str, Any], key: str) -> None:
    """Send JSON to a webhook, with `key` as the header `Idempotency-Key`: a lost answer makes a repetition possible.

    Raises:
        InputError: the URL is invalid, or the webhook refuses the notice.
        StorageError: all tries failed.
    """
    where = f"the webhook at {check_webhook(url)}"
    body = json.dumps(payload).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "sidlsg"}
    opener = urllib.request.build_opener(_NoRedirects)
    for pause in (*PAUSES, None):
        try:
            request = urllib.request.Request(url, data=body, headers=headers, method="POST")
            with deadline(TRY_S, where), opener.open(request, timeout=TRY_S):
                return
        except HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in AGAIN:
                raise InputError(
                    f"{where} refused the notice with code {error.code}; check the URL in the Secret"
                ) from None
            reason = f"code {error.code}"
        except (OSError, HTTPException, StorageError) as error:
            # The error of a request may show the whole URL.
            reason = first_line(error).replace(url, "the URL")
        if pause is None:
            raise StorageError(
                f"{where} did not take the notice in {len(PAUSES) + 1} tries, the last one: {reason}; check that it "
                "can be reached from the cluster; the run's own results are not changed"
            )
        time.sleep(pause)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Turns a redirect into a refusal: it would be followed without the notice."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Do not follow."""
        return


def notify(
    *, pipeline: str, run: str, state: str, tracking_uri: str, report: Callable[[str], None] = note
) -> Notice | None:
    """Send the notice of a run if it failed or was rejected, to the webhook that the environment names.

    Args:
        pipeline: name.
        run: id.
        state: Kubeflow Pipelines' state of all other steps together.
        tracking_uri: of the registry; empty for the one that the environment names.
        report: receives a line for the log.

    Returns:
        The notice that was sent, or None.

    Raises:
        InputError: the webhook's URL is invalid, the webhook refuses the notice, or the registry cannot be used.
        StorageError: a server does not answer.
    """
    url = os.environ.get(NOTICE_VARIABLE, "").strip()
    if not url:
        report(f"no notice: {NOTICE_VARIABLE} is not set")
        return None
    where = check_webhook(url)
    if state.upper() in CANCELLED:
        report("no notice: the run was cancelled")
        return None
    notice = _notice(pipeline, run, state, tracking_uri)
    if notice is None:
        report("no notice: the run succeeded, and its gate rejected nothing")
        return None
    if _was_sent(notice, report):
        report(f"no notice: that of run {run} was sent by an earlier try of this step")
        return None
    send(url, notice.payload(), notice.id)
    report(f"sent a notice to {where}: {notice.kind}")
    _remember(notice, report)
    return notice


def _notice(pipeline: str, run: str, state: str, tracking_uri: str) -> Notice | None:
    address = _run_url(run)
    # A step whose pod was lost leaves its group unfinished for ever, so any other state counts as a failure.
    if state.upper() not in SUCCEEDED:
        step, failure = failed_step(run)
        return Notice(kind="failed", pipeline=pipeline, run=run, run_url=address, step=step, error=failure)
    # Imported here: MLflow takes seconds, and a failed run does not need it.
    from sidlsg.registry.address import given_address
    from sidlsg.registry.verdicts import judged_by

    rejected = tuple(
        Rejected(name=each.name, version=each.version, rules=each.failed_rules, awaits_approval=each.awaits_approval)
        for each in judged_by(run, given_address(tracking_uri))
        if not each.passed
    )
    if not rejected:
        return None
    return Notice(kind="rejected", pipeline=pipeline, run=run, run_url=address, rejected=rejected)


def _run_url(run: str) -> str:
    pages = os.environ.get(PAGES_VARIABLE, "").rstrip("/")
    if pages and http_address(pages) is None:
        raise InputError(f"{PAGES_VARIABLE} is {pages!r}; give the http(s) address of Kubeflow Pipelines' pages")
    return f"{pages}/#/runs/details/{quote(run, safe='')}" if pages else ""


def _was_sent(notice: Notice, report: Callable[[str], None]) -> bool:
    try:
        open_store(checkpoints_place()).read(f"{SENT}/{notice.id}.json")
    except MissingError:
        return False
    except SidlsgError as error:
        report(f"whether the notice was sent before is unknown: {first_line(error)}")
        return False
    return True


def _remember(notice: Notice, report: Callable[[str], None]) -> None:
    try:
        open_store(checkpoints_place()).write(f"{SENT}/{notice.id}.json", b"{}\n")
    except SidlsgError as error:
        report(f"a retry of this step would send the notice again: {first_line(error)}")
