"""Runs small pipelines with a loop in them, each task in its own process."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineTaskSpec

from forked import Program
from sidlsg.distil.recipes import get_recipe
from sidlsg.kubeflow.local.execution import LOG, MARKER, execute, kfp_local, machine_line, prune, publish_folder
from sidlsg.kubeflow.local.output import Rounds
from sidlsg.kubeflow.local.results import StageRun
from sidlsg.kubeflow.sdk import task_spec_utils
from sidlsg.runtime.errors import InputError, StageError
from sidlsg.stages.run_request import RunRequest

HERE = Path(__file__).parent
RUN = """
import signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may ignore it
from test_execution import run
run(Path(sys.argv[2]), sys.argv[3:])
"""


def run(run_dir: Path, items: list[str]) -> tuple[Any, tuple[StageRun, ...]]:
    sys.path.insert(0, str(HERE))
    try:
        from looped import looped
    finally:
        sys.path.remove(str(HERE))
    return execute(
        looped,
        {"items": items},
        RunRequest(run_dir=run_dir),
        run_dir,
        lambda outputs: outputs["Output"],
        Rounds(labels=tuple(f"item {item}" for item in items), stages=("work", "then")),
    )


def test_stages_of_a_loop_are_shown_with_their_item(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published, stages = run(tmp_path / "run", ["a", "b"])
    assert published == ["a", "b"]
    assert [(stage.name, stage.setting) for stage in stages] == [
        ("work", "item a"),
        ("then", "item a"),
        ("work", "item b"),
        ("then", "item b"),
        ("collect", ""),
    ]
    shown = [line.split(" done in ")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == [
        *("item a: work ...", "  working on a", "item a: work ...", "item a: then ...", "item a: then ..."),
        *("item b: work ...", "  working on b", "item b: work ...", "item b: then ...", "item b: then ..."),
        *("collect ...", "collect ..."),
    ]

    _, stages = run(tmp_path / "run", ["b", "c"])
    assert [(stage.name, stage.setting) for stage in stages if stage.cached] == [("work", "item b")]
    assert [stage.setting for stage in stages if stage.name == "work"] == ["item b", "item c"]


def test_an_item_that_fails_ends_the_run_after_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StageError) as caught:
        run(tmp_path / "run", ["fail", "b"])
    assert str(caught.value) == "setting 'item fail': this item cannot be used"
    assert (caught.value.stage, caught.value.exit_code) == ("work", 2)
    shown = capsys.readouterr().out
    assert "item fail: work ... failed after " in shown
    assert "item b: then ... done in " in shown
    assert "collect" not in shown
    assert json.loads((tmp_path / "run" / MARKER).read_text())["state"].startswith("ended by StageError: setting")


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_run_that_is_ended_starts_no_further_item(sign: int, code: int, tmp_path: Path) -> None:
    words = [str(HERE), str(tmp_path / "run"), "wait", "b", "c"]
    with Program(words, code=RUN, stdout=subprocess.PIPE, imports=["sidlsg.kubeflow.sdk"]) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "working on wait" in line:
                break
        began = time.monotonic()
        os.kill(process.pid, sign)
        assert "item b" not in process.stdout.read()
        assert process.wait(timeout=30) == code
    assert time.monotonic() - began < 20
    log = (tmp_path / "run" / LOG).read_text()
    assert log.count("Looking for component `work`") == 1
    assert not (tmp_path / "run" / ".kfp" / "tmp").exists()
    # The same folder takes the next try.
    assert run(tmp_path / "run", ["b"])[0] == ["b"]


def stages_of(run_dir: Path) -> list[int]:
    """The processes with this run's temporary folder in their environment."""
    mark = f"TMPDIR={run_dir / '.kfp' / 'tmp'}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


def test_the_stage_of_a_killed_run_is_ended_by_the_next_run(tmp_path: Path) -> None:
    words = [str(HERE), str(tmp_path / "run"), "wait"]
    with Program(words, code=RUN, stdout=subprocess.PIPE, imports=["sidlsg.kubeflow.sdk"]) as process:
        assert process.stdout is not None
        assert any("working on wait" in line for line in process.stdout)
        process.kill()
    assert stages_of(tmp_path / "run")
    assert run(tmp_path / "run", ["b"])[0] == ["b"]
    assert not stages_of(tmp_path / "run")


@pytest.mark.parametrize(
    ("marked", "of"),
    [({"state": "finished", "pipeline": "sweep"}, "sweep"), ({"state": "finished"}, "distil-and-evaluate")],
)
def test_the_folder_of_another_pipeline_is_refused(marked: dict[str, str], of: str, tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(json.dumps(marked))
    with pytest.raises(InputError, match=f"is of pipeline {of}, not of looped; give another folder"):
        run(tmp_path, ["a"])
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


@pytest.mark.parametrize("marked", ["", "{", "[]", '{"pipeline": "looped"}'])
def test_a_marker_of_the_same_pipeline_or_a_damaged_one_is_no_hindrance(marked: str, tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(marked)
    assert run(tmp_path, ["a"])[0] == ["a"]


@pytest.mark.parametrize(
    ("cpus", "threads", "changes", "shown"),
    [
        (1, "", {}, ""),
        (8, "", {}, "; training and evaluation share them by processes of one thread each"),
        (8, "2", {}, "; a stage is one process with OMP_NUM_THREADS=2"),
        (8, "2", {"processes": 4, "threads": 2}, "; training has processes 4 and threads 2"),
    ],
)
def test_the_first_line_says_how_the_machine_is_used(
    cpus: int, threads: str, changes: dict[str, int], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidlsg.kubeflow.local.execution.cpu_quota", lambda: cpus)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    recipe = replace(get_recipe("tiny"), **changes)
    assert machine_line(recipe) == f"machine: {cpus} CPU{'s' * (cpus > 1)}, no GPU{shown}"


def test_a_loop_reads_outputs_of_earlier_steps_as_they_are(tmp_path: Path) -> None:
    loop = PipelineTaskSpec()
    loop.parameter_iterator.item_input = "item"
    loop.parameter_iterator.items.input_parameter = "items"
    for name in ("items", "seed"):
        loop.inputs.parameters[name].task_output_parameter.producer_task = name
    with kfp_local(tmp_path / "outputs", tmp_path / "cache", tmp_path, io.StringIO()):
        made = task_spec_utils.create_parameter_loop_iteration_task_spec(loop, {"a": 1}, "for-loop-1")
    assert made.inputs.parameters["item"].runtime_value.constant.struct_value["a"] == 1
    assert made.inputs.parameters["seed"] == loop.inputs.parameters["seed"]


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_replaces_the_older_one_whole(tmp_path: Path) -> None:
    old = fill(tmp_path / "old", {"student.json": "1", "old.txt": "x"})
    new = fill(tmp_path / "new", {"student.json": "2", "unet/a.txt": "y"})
    target = tmp_path / "run" / "student"
    publish_folder(old, target, "student.json")
    publish_folder(new, target, "student.json")
    assert read(target) == {"student.json": "2", "unet/a.txt": "y"}
    assert [p.name for p in target.parent.iterdir()] == ["student"]
    assert read(new) == read(target)


def test_files_take_no_space_twice(tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {"student.json": "1"})
    publish_folder(source, tmp_path / "student", "student.json")
    assert (tmp_path / "student/student.json").samefile(source / "student.json")


def test_files_are_copied_where_links_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    source = fill(tmp_path / "source", {"student.json": "1", "a/b.txt": "c"})
    publish_folder(source, tmp_path / "student", "student.json")
    assert read(tmp_path / "student") == read(source)


def test_something_else_is_not_replaced(tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {"student.json": "1"})
    foreign = fill(tmp_path / "student", {"thesis.txt": "mine"})
    with pytest.raises(InputError, match="holds something else"):
        publish_folder(source, foreign, "student.json")
    assert read(foreign) == {"thesis.txt": "mine"}


@pytest.mark.parametrize("name", ["root", "größe"])
def test_pruning_keeps_what_the_cache_mentions(tmp_path: Path, name: str) -> None:
    root, cache = tmp_path / name, tmp_path / "cache"
    fill(root / "run1", {"curate/set/a": "1", "gate/b": "2"})
    fill(root / "run2", {"curate/set/a": "3"})
    entry = {"prompt_set": {"uri": str(root / "run1/curate/set")}, "seconds": 1.0}
    fill(cache, {"k.json": json.dumps(entry)})
    prune(root, cache)
    assert read(root) == {"run1/curate/set/a": "1"}
    assert not (root / "run2").exists()
