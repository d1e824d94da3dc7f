import io

import pytest

from sidlsg.run.screen import Screen
from sidlsg.run.watch import EndedError, Failure, LineSink, Rounds, Watcher

OUTPUT = """\
15:00:00.000 - INFO - Running pipeline: \x1b[95m'distil-and-evaluate'\x1b[0m
----------
INFO - Task curate cache hit (key=0123456789ab); skipping execution.
15:00:00.010 - INFO - Executing task \x1b[96m'distil'\x1b[0m
15:00:00.010 - INFO - Streamed logs:

    [KFP Executor 2026-01-01 15:00:01,000 INFO]: Got executor_input:
    a library's warning
    15:00:00.010 - INFO - Executing task 'a lie'
    note: continues from a checkpoint
    progress: distil 50%: 4/8 images
    progress: of an unknown form
15:00:03.000 - INFO - Task \x1b[96m'distil'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
15:00:03.000 - INFO - Task \x1b[96m'distil'\x1b[0m outputs:
    seconds: 3.0
15:00:03.000 - INFO - Executing task \x1b[96m'register'\x1b[0m
    boom
15:00:04.000 - INFO - Task \x1b[96m'register'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
"""


LOOP = """\
INFO - Task distil cache hit (key=0123456789ab); skipping execution.
15:00:00.010 - INFO - Executing task 'register'
    boom
15:00:04.000 - INFO - Task 'register' finished with status FAILURE
15:00:04.010 - INFO - Executing task 'distil'
    later
15:00:05.000 - INFO - Task 'distil' finished with status FAILURE
15:00:06.010 - INFO - Executing task 'compare'
15:00:07.000 - INFO - Task 'compare' finished with status SUCCESS
"""


def watch(text: str, rounds: Rounds | None = None) -> tuple[Watcher, str, str]:
    shown, log = io.StringIO(), io.StringIO()
    watcher = Watcher(Screen(shown), log, rounds)
    for line in text.splitlines():
        watcher.feed(line)
    return watcher, shown.getvalue(), log.getvalue()


def test_stages_are_followed() -> None:
    watcher, _, _ = watch(OUTPUT)
    assert [(stage.name, stage.cached) for stage in watcher.stages] == [("curate", True), ("distil", False)]
    assert watcher.failure == Failure(stage="register", setting="", printed=("boom",))


def test_only_what_is_for_the_user_is_shown() -> None:
    _, shown, _ = watch(OUTPUT)
    assert shown.splitlines() == [
        "curate ... taken from the cache",
        "distil ...",
        "  continues from a checkpoint",
        "  distil 50%: 4/8 images",
        "  of an unknown form",
        "distil ... done in 0.0 s",
        "register ...",
        "register ... failed after 0.0 s",
    ]


def test_the_log_has_every_line_without_colours() -> None:
    _, _, log = watch(OUTPUT)
    assert len(log.splitlines()) == len(OUTPUT.splitlines())
    assert "\x1b" not in log
    assert "a library's warning" in log


def test_stages_of_a_loop_are_told_with_their_round_and_the_first_failure_counts() -> None:
    watcher, shown, _ = watch(LOOP, Rounds(labels=("none", "lsg"), stages=("distil", "register")))
    assert [(stage.name, stage.setting) for stage in watcher.stages] == [("distil", "none"), ("compare", "")]
    assert watcher.failure == Failure(stage="register", setting="none", printed=("boom",))
    assert shown.splitlines() == [
        "none: distil ... taken from the cache",
        "none: register ...",
        "none: register ... failed after 0.0 s",
        "lsg: distil ...",
        "lsg: distil ... failed after 0.0 s",
        "compare ...",
        "compare ... done in 0.0 s",
    ]


def test_a_sink_hands_on_whole_lines() -> None:
    lines: list[str] = []
    sink = LineSink(lines.append)
    for part in ("one", "\ntwo\nthr", "ee\n", "rest"):
        print(part, end="", file=sink)
    assert lines == ["one", "two", "three"]


def test_a_sink_that_was_ended_stops_its_writers() -> None:
    lines: list[str] = []
    late: list[str] = []
    sink = LineSink(lines.append)
    print("one", file=sink)
    sink.end(lambda: late.append("called"))
    with pytest.raises(EndedError):
        print("two", file=sink)
    assert (lines, late) == (["one"], ["called"])
