"""`kill -9` in the middle of a curation: the same call goes on and gives the same shards, and leaves no worker."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forked import Program
from sidlsg.prompts import plan as prepare
from sidlsg.prompts.curation import begin, run_phase
from sidlsg.prompts.engines import Engine
from sidlsg.prompts.phases.phases import PHASES
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.rules import BalanceRule, CurationRules
from sidlsg.prompts.work import Task, Work, work_folder
from sidlsg.stages.curate import curate
from sidlsg.storage.records import PromptSet

WORDS = Path(__file__).parents[2] / "assets" / "prompts" / "held_out.txt"
RULES = CurationRules(balance=BalanceRule(maximum_per_bin=9000))
HELD_OUT = WORDS.read_text().splitlines()
ROWS, FILES = 120_000, 8
TASKS = 48 + 32 * 6
"""So many there are before shards are written: pieces, then buckets in each of seven phases; and the last of those
is over so soon that a kill would come too late."""
PATIENCE_S = 90.0
PROGRAM = """
import sys
from sidlsg.prompts import plan as prepare
from sidlsg.prompts.plan import Execution
from sidlsg.stages.curate import curate
from unbreakable.test_kill_curation import HELD_OUT, RULES

if __name__ == "__main__":
    prepare.ROWS_PER_PIECE, prepare.BYTES_PER_TEXT = 2500, 100_000
    curate([sys.argv[1]], sys.argv[2], RULES, HELD_OUT, Execution(workers=2, rows_per_shard=1000))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which some are equal and some alike."""
    folder = tmp_path_factory.mktemp("source") / "tables"
    folder.mkdir()
    chance = random.Random(0)
    words = ["".join(chance.choice("bdfgklmnprst") + chance.choice("aeiou") for _ in range(3)) for _ in range(4000)]
    texts: list[str] = []
    for number in range(ROWS):
        if number % 10 == 0 and texts:
            texts.append(chance.choice(texts) + chance.choice(["", " II", "."]))
        else:
            texts.append(f"a photo of the {' '.join(chance.choice(words) for _ in range(6))}")
    for number in range(FILES):
        part = texts[number::FILES]
        scores = [chance.uniform(5.9, 7.0) for _ in part]
        table = pa.table({"TEXT": part, "AESTHETIC_SCORE": scores})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=2500)
    return folder


def start(source: Path, output: Path) -> Program:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": path}
    program = output.parent / "program.py"
    program.write_text(PROGRAM)
    with (output.parent / "log").open("ab") as log:
        return Program(
            [str(source), str(output)],
            file=program,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def members(session: int) -> dict[int, str]:
    """The living processes of a session, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # After the name, which may have spaces: state, parent, group, session.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and int(fields[3]) == session:
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def left_after(session: int) -> dict[int, str]:
    """Those that outlive the first process of a session for longer than a few seconds."""
    until = time.monotonic() + 5
    while (left := members(session)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def done(folder: Path) -> int:
    """Finished tasks, of all phases."""
    return sum(1 for _ in folder.glob(".out.*.work/done/*/*.json"))


def digests(output: Path) -> dict[str, list[str]]:
    sets = sorted(output.rglob(PromptSet.FILE))
    for path in sets:
        PromptSet.load(path.parent).verify(path.parent)
    return {
        path.parent.relative_to(output).as_posix(): [s.sha256 for s in PromptSet.load(path.parent).shards]
        for path in sets
    }


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], PromptSet]:
    """Of a call that nobody interrupts, in one process and one bucket."""
    output = tmp_path_factory.mktemp("whole") / "out"
    record = curate([str(source)], output, RULES, HELD_OUT, Execution(rows_per_shard=1000))
    return digests(output), record


@pytest.mark.parametrize("kills", [5, pytest.param(10, marks=pytest.mark.long)])
def test_killed_many_times_it_gives_the_same_shards(
    source: Path, whole: tuple[dict[str, list[str]], PromptSet], tmp_path: Path, kills: int
) -> None:
    chance = random.Random(1)
    output = tmp_path / "out"
    seen, killed = [], 0
    while killed < kills:
        process = start(source, output)
        begun = time.monotonic()
        # Somewhere in each part of the tasks, or at once where the last one got further: kills fall on all phases.
        wanted = chance.randrange(TASKS * killed // kills, TASKS * (killed + 1) // kills)
        pause = chance.uniform(0, 0.05)
        while done(tmp_path) < wanted and process.poll() is None:
            assert time.monotonic() - begun < PATIENCE_S
            time.sleep(0.005)
        time.sleep(pause)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
        seen.append(done(tmp_path))
        assert left_after(process.pid) == {}
        assert not output.exists()
        there = {path.name for path in tmp_path.iterdir()} - {"program.py", "log"}
        assert all(name.startswith(".out.") and name.endswith(".work") for name in there)
    log = (tmp_path / "log").read_text()
    print(f"killed {killed} times, when so many tasks were done: {seen}")  # noqa: T201
    assert killed == kills, log[-2000:]
    assert seen == sorted(seen)
    assert seen[-1] > 0.8 * TASKS  # the last kill fell on one of the late phases
    last = start(source, output)
    assert last.wait(PATIENCE_S) == 0, (tmp_path / "log").read_text()[-2000:]
    assert left_after(last.pid) == {}
    assert digests(output) == whole[0]
    assert PromptSet.load(output) == whole[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out", "program.py"]


def test_what_a_killed_writer_left_is_never_read(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    texts = [f"a photo of the dog and number {n} of the cats {n * n}" for n in range(2000)]
    pq.write_table(pa.table({"TEXT": texts, "AESTHETIC_SCORE": [7.0] * 2000}), source / "a.parquet", row_group_size=100)
    expected = curate([str(source)], tmp_path / "whole", CurationRules(), [])
    for stage in range(len(PHASES)):
        output = tmp_path / f"out-{stage}"
        plan = prepare.make_plan([str(source)], CurationRules(), [])
        key = plan.key()
        with pytest.raises(KeyboardInterrupt), work_folder(str(output), "", key) as place:
            work, plan = begin(place, plan)
            for phase in PHASES[:stage]:
                run_phase(work, plan, phase, Engine())
            raise KeyboardInterrupt
        folder = Path(place)
        whole = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        assert folder / "plan.json" in whole
        # As `kill -9` leaves them: a part of a content, under the name that it has until it is complete.
        for path in whole:
            half = path.read_bytes()[: path.stat().st_size // 2]
            (path.parent / f".{path.name}.abcd1234").write_bytes(half)
        for number in range(3):
            for phase in PHASES:
                left = folder / "done" / phase.name / f".{number:06}.json.zzzz9999"
                left.parent.mkdir(parents=True, exist_ok=True)
                left.write_text('{"chu')
        assert curate([str(source)], output, CurationRules(), [], Execution()).shards == expected.shards
        assert not folder.exists()
    assert Work(str(tmp_path / "new")).done("scan") == {}
    Work(str(tmp_path / "new")).finish(Task("scan", 1), {})
    assert Work(str(tmp_path / "new")).done("scan") == {1: {}}
