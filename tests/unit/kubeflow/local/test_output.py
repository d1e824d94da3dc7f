"""What a local run shows and logs, and the error of a failed stage."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from sidlsg.kubeflow.local.output import LineSink, Rounds, Screen, Watcher, stage_error
from sidlsg.runtime.errors import SidlsgError, StageError

ERROR = {"kind": "error", "type": "InputError", "text": "boom", "exit_code": 2}


class Log(io.StringIO):
    name = "run.log"


def watching(rounds: Rounds | None = None) -> tuple[Watcher, io.StringIO, io.StringIO]:
    shown, log = io.StringIO(), Log()
    return Watcher(Screen(shown), log, rounds), shown, log


def test_stages_are_followed_and_only_what_is_for_the_user_is_shown() -> None:
    watcher, shown, log = watching()
    watcher.logged("INFO - Running pipeline \x1b[95m'looped'\x1b[0m")
    watcher.cached("curate")
    watcher.started("distil")
    watcher.printed("a library's warning")
    watcher.reported({"kind": "note", "text": "continues from a checkpoint"})
    watcher.reported({"kind": "progress", "label": "distil", "percent": 50, "text": "4/8 images"})
    watcher.reported({"kind": "a later version's"})
    watcher.ended("distil", True)
    watcher.started("register")
    watcher.reported(ERROR)
    watcher.ended("register", False)
    assert [(stage.name, stage.cached) for stage in watcher.stages] == [("curate", True), ("distil", False)]
    assert watcher.failure is not None
    assert (watcher.failure.stage, watcher.failure.exit_code, str(watcher.failure)) == ("register", 2, "boom")
    assert shown.getvalue().splitlines() == [
        "curate ... taken from the cache",
        "distil ...",
        "  continues from a checkpoint",
        "  distil 50%: 4/8 images",
        "distil ... done in 0.0 s",
        "register ...",
        "register ... failed after 0.0 s",
    ]
    assert log.getvalue().splitlines() == ["INFO - Running pipeline 'looped'", "    a library's warning"]


def test_stages_of_a_loop_are_shown_with_their_round_and_the_first_failure_counts() -> None:
    watcher, shown, _ = watching(Rounds(labels=("none", "lsg"), stages=("distil", "register")))
    watcher.cached("distil")
    watcher.started("register")
    watcher.reported(ERROR)
    watcher.ended("register", False)
    watcher.started("distil")
    watcher.ended("distil", False)
    watcher.started("compare")
    watcher.ended("compare", True)
    assert [(stage.name, stage.setting) for stage in watcher.stages] == [("distil", "none"), ("compare", "")]
    assert watcher.failure is not None
    assert (watcher.failure.stage, str(watcher.failure)) == ("register", "setting 'none': boom")
    assert shown.getvalue().splitlines() == [
        "none: distil ... taken from the cache",
        "none: register ...",
        "none: register ... failed after 0.0 s",
        "lsg: distil ...",
        "lsg: distil ... failed after 0.0 s",
        "compare ...",
        "compare ... done in 0.0 s",
    ]


def test_a_killed_stage_does_not_take_the_error_of_the_one_before() -> None:
    watcher, _, _ = watching()
    watcher.started("curate")
    watcher.reported(ERROR)
    watcher.ended("curate", True)
    watcher.started("distil")
    watcher.ended("distil", False)
    assert "stage distil ended without an error message" in str(watcher.failure)


def test_a_sink_passes_on_whole_lines() -> None:
    lines: list[str] = []
    sink = LineSink(lines.append)
    for part in ("one", "\ntwo\nthr", "ee\n", "rest"):
        print(part, end="", file=sink)
    assert lines == ["one", "two", "three"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_without_a_terminal_every_line_is_plain() -> None:
    file = io.StringIO()
    screen = Screen(file)
    screen.stage_started("distil")
    screen.note("a [note] with brackets that is longer than eighty columns, which must not be wrapped at all, ever")
    screen.progress("distil", 50, "4/8 images")
    screen.stage_done("distil", "done in 3.1 s")
    screen.stage_started("distil", "lsg kappa=2")
    screen.stage_done("distil", "done in 3.2 s", "lsg kappa=2")
    screen.close()
    assert file.getvalue().splitlines() == [
        "distil ...",
        "  a [note] with brackets that is longer than eighty columns, which must not be wrapped at all, ever",
        "  distil 50%: 4/8 images",
        "distil ... done in 3.1 s",
        "lsg kappa=2: distil ...",
        "lsg kappa=2: distil ... done in 3.2 s",
    ]


def test_a_terminal_that_cannot_go_back_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen(file := Terminal())
    screen.stage_started("distil")
    screen.progress("distil", 100, "8/8 images")
    screen.close()
    assert file.getvalue() == "distil ...\n  distil 100%: 8/8 images\n"


def test_a_terminal_shows_one_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    screen = Screen(file)
    screen.stage_started("distil")
    screen.progress("distil", 50, "4/8 images, ETA 0:01")
    screen.note("noted")
    screen.stage_done("distil", "done in 3.1 s")
    before = file.tell()
    screen.close()
    assert file.tell() == before
    shown = plain(file.getvalue())
    assert "━" in shown
    assert "4/8 images, ETA 0:01" in shown
    assert "  noted\n" in shown
    assert shown.rstrip().endswith("distil ... done in 3.1 s")
    # The bar's line is erased before the last line is written.
    assert "\x1b[2K" in file.getvalue()


def test_a_terminal_s_bar_says_which_setting_runs() -> None:
    file = Terminal()
    screen = Screen(file)
    screen.stage_started("distil", "lsg kappa=2")
    screen.progress("distil", 50, "4/8 images")
    screen.close()
    shown = plain(file.getvalue())
    assert shown.count("lsg kappa=2: distil") >= 2
    assert "4/8 images" in shown


def failed(setting: str = "", **error: Any) -> StageError:
    return stage_error("distil", setting, error or None, "run.log")


@pytest.mark.parametrize("code", [1, 2, 3])
def test_an_error_of_ours_keeps_message_and_exit_code(code: int) -> None:
    error = failed(type="InputError", text="no unet: give one", exit_code=code)
    assert (str(error), error.stage, error.exit_code) == ("no unet: give one", "distil", code)
    assert isinstance(error, SidlsgError)


def test_an_error_of_a_sweep_names_the_setting() -> None:
    error = failed("lsg kappa=9", type="AlarmError", text="the loss is not finite", exit_code=4)
    assert (str(error), error.exit_code) == ("setting 'lsg kappa=9': the loss is not finite", 4)


def test_another_error_is_given_with_its_type_and_the_log() -> None:
    error = failed(type="ValueError", text="bad", exit_code=None)
    assert str(error) == "stage distil failed: ValueError: bad; everything it printed is in run.log"
    assert error.exit_code == 1


def test_an_error_without_a_message() -> None:
    assert "failed: KeyboardInterrupt;" in str(failed(type="KeyboardInterrupt", text="", exit_code=None))


def test_a_killed_process_is_named_as_such() -> None:
    error = failed()
    assert "stage distil ended without an error message" in str(error)
    assert "run.log" in str(error)
    assert error.exit_code == 1
