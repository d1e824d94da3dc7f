from __future__ import annotations

import pytest

from sidlsg.runtime.progress import Meter
from sidlsg.runtime.progress import note as note
from sidlsg.runtime.provenance import headed, pipeline_run, printable, run_tag, say


def test_without_a_pipeline_run_nothing_is_said_of_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIDLSG_PIPELINE_RUN", raising=False)
    assert pipeline_run() == ""
    assert run_tag() == {}
    say("hello")
    note("hello")
    assert capsys.readouterr().out == "hello\nnote: hello\n"


def test_every_line_begins_with_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SIDLSG_PIPELINE_RUN", " 12-ab\n")
    assert run_tag() == {"pipeline_run": "12-ab"}
    assert headed("one\ntwo") == "run=12-ab one\nrun=12-ab two"
    note("alarm at 1\nalarm at 2")
    with Meter("distil", 2, "images") as meter:
        meter.update(2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["run=12-ab note: alarm at 1", "run=12-ab alarm at 2"]
    assert lines[2].startswith("run=12-ab progress: distil 100%")
    assert all(line.startswith("run=12-ab ") for line in lines)


def test_what_would_steer_a_terminal_is_shown_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIDLSG_PIPELINE_RUN", raising=False)
    say("a\x1b]0;owned\x07\x9b2J\u202eb\ud800\tκ, … 日本\nc")
    assert capsys.readouterr().out == "a\\x1b]0;owned\\x07\\x9b2J\\u202eb\\ud800\tκ, … 日本\nc\n"
    assert printable("plain") == "plain"
