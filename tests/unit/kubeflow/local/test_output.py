import io

from sidlsg.kubeflow.local.output import LineSink, Rounds, Screen, StageFailure, Watcher

ERROR = {"kind": "error", "type": "InputError", "text": "boom", "exit_code": 2}


def watching(rounds: Rounds | None = None) -> tuple[Watcher, io.StringIO, io.StringIO]:
    shown, log = io.StringIO(), io.StringIO()
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
    assert watcher.failure == StageFailure(stage="register", setting="", error=ERROR)
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
    assert watcher.failure == StageFailure(stage="register", setting="none", error=ERROR)
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
    assert watcher.failure == StageFailure(stage="distil", setting="", error=None)


def test_a_sink_passes_on_whole_lines() -> None:
    lines: list[str] = []
    sink = LineSink(lines.append)
    for part in ("one", "\ntwo\nthr", "ee\n", "rest"):
        print(part, end="", file=sink)
    assert lines == ["one", "two", "three"]
