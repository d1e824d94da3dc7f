"""The Markdown of a run, from what a server's client gives."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidlsg.kubeflow.server.submission import add_summary, outputs, run_summary
from sidlsg.registry.verdicts import JudgedVersion
from sidlsg.runtime.errors import InputError

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
JUDGED = JudgedVersion(
    name="sd15",
    version=4,
    passed=False,
    awaits_approval=False,
    champion=False,
    rules=("passed: at most 3 | of it: 2.5", "FAILED: accuracy is at least 0.99: 0.5 <b>"),
    scores={"fid_judge": "14.4 (12.4 to 16.4), fid/judge, 2016 images"},
    cost="18.9500",
)


def task(name: str, state: str = "SUCCEEDED", seconds: float | None = None, error: str = "") -> Any:
    end = None if seconds is None else BEGAN + timedelta(seconds=seconds)
    failure = SimpleNamespace(message=error) if error else None
    return SimpleNamespace(display_name=name, state=state, start_time=BEGAN, end_time=end, error=failure)


def run(*tasks: Any, state: str = "SUCCEEDED") -> Any:
    details = SimpleNamespace(task_details=list(tasks)) if tasks else None
    return SimpleNamespace(run_id="12-ab", display_name="retrain_7", state=state, run_details=details)


def test_a_verdict_its_rules_scores_and_stages_are_shown() -> None:
    text = run_summary(
        run(task("root"), task("distil-driver"), task("distil", seconds=75.0)), "http://kfp/12", [JUDGED]
    )
    assert text.splitlines() == [
        r"## retrain\_7: succeeded",
        "",
        "Run [12-ab](<http://kfp/12>)",
        "",
        "**Version 4 of sd15 did not pass the gate.** It is not the champion.",
        "The run cost 18.9500.",
        "",
        r"- passed: at most 3 \| of it: 2.5",
        "- FAILED: accuracy is at least 0.99: 0.5 &lt;b&gt;",
        "",
        "| score | value, protocol, of |",
        "|---|---|",
        r"| fid\_judge | 14.4 (12.4 to 16.4), fid/judge, 2016 images |",
        "",
        "| stage | state | time |",
        "|---|---|---:|",
        "| distil | succeeded | 1:15 |",
    ]
    assert JUDGED.failed == "accuracy is at least 0.99: 0.5 <b>"


def test_an_outcome_becomes_outputs_the_worst_first() -> None:
    passed = replace(JUDGED, version=1, passed=True)
    awaiting = replace(JUDGED, version=2, awaits_approval=True)
    assert outputs([]) == ""
    assert outputs([passed, awaiting]) == "verdict=awaiting\nmodel=sd15\nversion=2\n"
    assert outputs([passed, JUDGED, awaiting]) == "verdict=rejected\nmodel=sd15\nversion=4\n"
    with pytest.raises(InputError, match="is not allowed"):
        outputs([replace(JUDGED, name="a\nverdict=passed")])


def test_a_failed_stage_says_why_on_one_line() -> None:
    text = run_summary(run(task("distil", "FAILED", error="out of\nmemory"), state="FAILED"), "http://kfp/12", [])
    assert r"## retrain\_7: failed" in text
    assert "| distil | failed (out of memory) |  |" in text
    assert "gate" not in text


def test_a_run_without_tasks_is_reported() -> None:
    assert run_summary(run(state=""), "http://kfp/12", []).splitlines()[0] == r"## retrain\_7: pending"


def test_what_a_server_says_does_not_become_markdown() -> None:
    given = SimpleNamespace(run_id="1](http://evil)[", display_name="~~a~~", state="FAILED", run_details=None)
    text = run_summary(given, "https://kfp/#/runs/1>)(<b c", [])
    assert text.splitlines()[0] == r"## \~\~a\~\~: failed"
    assert r"Run [1\](http://evil)\[](<https://kfp/#/runs/1%3E)(%3Cb%20c>)" in text


def test_a_file_that_cannot_be_written_is_reported_before_and_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Job\n")
    add_summary(tmp_path / "page.md", "")
    assert (tmp_path / "page.md").read_text() == "# Job\n"
    with pytest.raises(InputError, match="Is a directory; give a file"):
        add_summary(tmp_path, "")


def test_it_goes_to_the_end_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Job\n")
    add_summary(tmp_path / "page.md", "one\n")
    assert (tmp_path / "page.md").read_text() == "# Job\none\n"
    with pytest.raises(InputError, match="cannot be written: No such file or directory; give a file"):
        add_summary(tmp_path / "none" / "page.md", "one\n")
