"""Progress where output is no terminal: how often lines come, and what they say."""

from __future__ import annotations

import io
import re

import pytest
from rich.table import Table

from sidlsg.runtime.progress import LINE_EVERY, PREFIX, Meter, PlainConsole, clock

Capture = pytest.CaptureFixture[str]


class Time:
    """A clock that the test winds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr("sidlsg.runtime.progress.time.monotonic", made)
    return made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (36061, "10:01:01"), (-3, "0:00")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_says_how_far_how_fast_and_how_long(time: Time, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("distil", 2000, "images") as meter:
        time.now += 10
        meter.update(500, "losses: 1.5")
        time.now += 30
        meter.update(2000)
    assert capsys.readouterr().out.splitlines() == [
        f"{PREFIX}distil 25%: 500/2,000 images, 50.0 images/s, losses: 1.5, ETA 0:30",
        f"{PREFIX}distil 100%: 2,000/2,000 images, 50.0 images/s, took 0:40",
    ]


def test_a_resumed_run_does_not_count_the_earlier_ones_speed(time: Time, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("distil", 100, "images", done=80) as meter:
        time.now += 10
        meter.update(90)
    assert capsys.readouterr().out == f"{PREFIX}distil 90%: 90/100 images, 1.0 images/s, ETA 0:10\n"


def test_lines_do_not_come_more_often_than_every_few_seconds(time: Time, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("work", 1000, "images") as meter:
        for done in range(1, 1001):
            time.now += LINE_EVERY / 100
            meter.update(done)
    lines = capsys.readouterr().out.splitlines()
    # The first, one each `LINE_EVERY` after it, and the last whenever it comes.
    assert 10 <= len(lines) <= 12
    assert "1,000/1,000" in lines[-1]
    assert all(re.match(rf"{PREFIX}work \d+%: ", line) for line in lines)


def test_no_progress_yet_has_no_estimate(time: Time, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("work", 10, "images") as meter:
        time.now += 5
        meter.update(0)
    assert "ETA ?" in capsys.readouterr().out


def test_a_terminal_gets_a_bar_and_no_lines(
    time: Time, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Meter("work", 10, "images") as meter:
        time.now += 5
        meter.update(10)
    out = capsys.readouterr().out
    assert PREFIX not in out
    assert "work" in out
    assert "10/10 images" in out


@pytest.mark.parametrize(("terminal", "variable", "value"), [(True, "TERM", "dumb"), (False, "FORCE_COLOR", "1")])
def test_where_no_bar_can_be_drawn_lines_come(
    terminal: bool, variable: str, value: str, time: Time, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv(variable, value)
    with Meter("work", 10, "images") as meter:
        time.now += 5
        meter.update(10)
    assert capsys.readouterr().out == f"{PREFIX}work 100%: 10/10 images, 2.0 images/s, took 0:05\n"


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[/x]", ":smile:", "plain", "κ1..κ4 ↑"])
def test_a_text_is_printed_as_it_is(text: str) -> None:
    console = PlainConsole(out := io.StringIO())
    console.print(text)
    assert out.getvalue() == f"{text}\n"


@pytest.mark.parametrize("where", ["line", "cell"])
def test_control_characters_do_not_reach_the_terminal(where: str) -> None:
    console = PlainConsole(out := io.StringIO())
    text = "\x1b]0;gone\x07\x1b[2J\u202eright"
    if where == "cell":
        table = Table()
        table.add_column("x", no_wrap=True)
        table.add_row(text)
        console.print(table)
    else:
        console.print(text)
    assert r"\x1b]0;gone\x07\x1b[2J\u202eright" in out.getvalue()
    assert not {"\x1b", "\x07", "\u202e"} & set(out.getvalue())
