"""Engines do all tasks, pass on what tasks raise, and end with what they started."""

import os
import signal
import time
from pathlib import Path

import pytest

from sidlsg.prompts.curation import begin
from sidlsg.prompts.engines import Processes, open_engine
from sidlsg.prompts.plan import make_plan
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.work import Task
from sidlsg.runtime.errors import InputError, SidlsgError


@pytest.fixture
def place(write_table, tmp_path):
    source = write_table([f"a photo of dog number {i}" for i in range(20)])
    plan = make_plan([str(source)], CurationRules(), [])
    begin(str(tmp_path / "work"), plan)
    return str(tmp_path / "work")


@pytest.mark.parametrize(("name", "workers"), [("native", 1), ("native", 2), ("ray", 2)])
def test_tasks_are_done_and_reported(place, name, workers):
    engine = open_engine(name, workers)
    done = []
    try:
        engine.run(place, [Task("scan", 0)], done.append)
        engine.run(place, [Task("unique", 0)], done.append)
    finally:
        engine.close()
    assert done == [Task("scan", 0), Task("unique", 0)]
    assert (Path(place) / "done/unique/000000.json").is_file()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tasks_error_is_raised(place, tmp_path, workers):
    (tmp_path / "in.parquet").write_bytes(b"PAR1 no more")
    engine = open_engine("native", workers)
    try:
        with pytest.raises(InputError, match=r"in\.parquet"):
            engine.run(place, [Task("scan", 0)], lambda _: None)
    finally:
        engine.close()


def test_a_killed_worker_is_an_error_with_advice(place):
    engine = Processes(2)
    try:
        pid = engine._pool.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        with pytest.raises(SidlsgError, match="give fewer workers"):
            engine.run(place, [Task("scan", 0)], lambda _: None)
    finally:
        engine.close()


def test_workers_use_one_thread():
    engine = Processes(1)
    try:
        assert engine._pool.submit(os.getenv, "POLARS_MAX_THREADS").result() == "1"
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("name", "workers", "message"),
    [
        ("spark", 1, "engine 'spark' is unknown; allowed: native, ray"),
        ("native", 0, "workers is 0; give 1 or more"),
    ],
)
def test_engines_that_cannot_be_opened(name, workers, message):
    with pytest.raises(InputError, match=message):
        open_engine(name, workers)


def test_one_worker_needs_no_other_process():
    assert not isinstance(open_engine("native", 1), Processes)
