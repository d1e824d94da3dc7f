"""The last step of a run: it sends one notice where the run failed or its gate rejected a version."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import quote

from sidlsg.kubeflow.failed_step import failed_step
from sidlsg.kubeflow.notice import Notice, Rejected
from sidlsg.kubeflow.webhook import check_webhook, send
from sidlsg.runtime.errors import InputError, MissingError, SidlsgError, first_line
from sidlsg.runtime.pipeline_run import checkpoints_place
from sidlsg.runtime.provenance import NOTICE_VARIABLE, PAGES_VARIABLE
from sidlsg.storage.store import open_store

SUCCEEDED = ("SUCCEEDED", "COMPLETE", "CACHED")
"""The words of Kubeflow Pipelines for a group of steps that all ended well."""
CANCELLED = ("CANCELLED", "CANCELED")
SENT = "notices"
"""The folder of what was sent, in the place of checkpoints."""


def notify(*, pipeline: str, run: str, state: str, tracking_uri: str, report: Callable[[str], None]) -> Notice | None:
    """Send the notice of a run, if it needs one; where and by what, the environment says.

    Args:
        pipeline: the name of the pipeline.
        run: the id of the run.
        state: of all other steps of the run together, as Kubeflow Pipelines has it.
        tracking_uri: of the registry; empty for the one that the environment names.
        report: receives a line for the log.

    Returns:
        The notice that was sent; None where there was none to send.

    Raises:
        InputError: the webhook's URL is none, the webhook refuses the notice, or the registry cannot be asked.
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
        failed = failed_step(run)
        return Notice(kind="failed", pipeline=pipeline, run=run, run_url=address, step=failed.step, error=failed.error)
    # Imported here: MLflow takes seconds, and a failed run does without.
    from sidlsg.registry.address import given_address
    from sidlsg.registry.judged import judged_by

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
    if pages and not pages.startswith(("http://", "https://")):
        raise InputError(f"{PAGES_VARIABLE} is {pages!r}; give the http(s) address of Kubeflow Pipelines' pages")
    return f"{pages}/#/runs/details/{quote(run, safe='')}" if pages else ""


def _was_sent(notice: Notice, report: Callable[[str], None]) -> bool:
    try:
        open_store(checkpoints_place()).read(f"{SENT}/{notice.id}.json")
    except MissingError:
        return False
    except SidlsgError as error:
        report(f"whether the notice was sent before is not known: {first_line(error)}")
        return False
    return True


def _remember(notice: Notice, report: Callable[[str], None]) -> None:
    try:
        open_store(checkpoints_place()).write(f"{SENT}/{notice.id}.json", b"{}\n")
    except SidlsgError as error:
        report(f"a retry of this step would send the notice again: {first_line(error)}")
