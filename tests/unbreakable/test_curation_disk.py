"""Disks that fill and files that are damaged: a clear error, nothing half-written, and the same call goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forked import run
from sidlsg.prompts import plan as prepare
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.prompt_set import MANIFEST
from sidlsg.prompts.rules import CurationRules
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate
from sidlsg.storage.records import PromptSet

SIZE = 24 << 20
ROWS = 20_000
RULES = CurationRules()


def fill(disk: Path, room: int = 0) -> None:
    """Leave so many bytes free."""
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    with (disk / "ballast").open("r+b") as file:
        file.truncate((disk / "ballast").stat().st_size - room)


def free(disk: Path) -> None:
    (disk / "ballast").unlink()


def write(path: Path, first: int, count: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [
        f"a photo of the dog {n * 7919 % 100_003} and cat {n * 104_729 % 1_000_003}"
        for n in range(first, first + count)
    ]
    pq.write_table(pa.table({"TEXT": texts, "AESTHETIC_SCORE": [7.0] * count}), path, row_group_size=1000)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "in.parquet", 0, ROWS)


def digests(output: Path) -> list[str]:
    record = PromptSet.load(output)
    record.verify(output)
    return [shard.sha256 for shard in record.shards]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("room", "workers"),
    [
        (0, 1),
        (300_000, 2),
        (1_300_000, 1),
        (2_600_000, 1),
        *(pytest.param(*each, marks=pytest.mark.long) for each in ((300_000, 1), (1_300_000, 2))),
    ],
)
def test_a_full_disk_is_named_and_the_same_call_goes_on(
    source: Path, disk: Path, tmp_path: Path, room: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "ROWS_PER_PIECE", 4000)
    execution = Execution(workers=workers, rows_per_shard=2000)
    expected = curate([str(source)], tmp_path / "whole", RULES, [], execution)
    output = disk / "out"
    curate([str(write(tmp_path / "old.parquet", 500_000, 50))], output, RULES, [])
    earlier = bytes_of(output)
    fill(disk, room)
    with pytest.raises(OSError, match="No space left on device") as caught:
        curate([str(source)], output, RULES, [], execution)
    assert str(disk) in str(caught.value)
    assert bytes_of(output) == earlier
    left = sorted(path.name for path in disk.iterdir())
    assert [name for name in left if not (name.startswith(".out.") and name.endswith(".work"))] == ["ballast", "out"]
    done = len(list(disk.glob(".out.*.work/done/*/*")))
    free(disk)
    assert curate([str(source)], output, RULES, [], execution) == expected
    assert digests(output) == [shard.sha256 for shard in expected.shards]
    assert [path.name for path in disk.iterdir()] == ["out"]
    print(f"{room:,} bytes of room: {done} tasks were done")  # noqa: T201


def test_the_command_line_says_it_in_one_line(source: Path, disk: Path) -> None:
    command = ["curate", "--source", str(source), "--output", str(disk / "out")]
    fill(disk, 200_000)
    failed = run(command)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
    (line,) = [line for line in failed.stderr.splitlines() if line and not line.startswith("progress:")]
    assert "space left" in line.lower()
    assert str(disk) in line
    assert not (disk / "out").exists()
    free(disk)
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert digests(disk / "out")


def many(folder: Path, files: int) -> Path:
    for number in range(files):
        write(folder / "many" / f"part-{number:03}.parquet", 50 * number, 50)
    return folder / "many"


def cut_off(path: Path) -> None:
    """Take away the file's end, where parquet says what is in it."""
    path.write_bytes(path.read_bytes()[:-200])


def overwrite(path: Path) -> None:
    """Damage pages, which are seen only when the rows are read."""
    data = bytearray(path.read_bytes())
    data[100:140] = bytes(range(40))
    path.write_bytes(data)


def no_score(path: Path) -> None:
    pq.write_table(pq.read_table(path).select(["TEXT"]), path)


def no_text(path: Path) -> None:
    pq.write_table(pq.read_table(path).select(["AESTHETIC_SCORE"]), path)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def text_for_scores(path: Path) -> None:
    texts = pq.read_table(path)["TEXT"]
    pq.write_table(pa.table({"TEXT": texts, "AESTHETIC_SCORE": pa.array(["high"] * len(texts))}), path)


DAMAGES = [
    (overwrite, "truncated or damaged"),
    (cut_off, "truncated or damaged"),
    (no_score, "score"),
    (no_text, "has no column 'TEXT'"),
    (nothing, "not a parquet file"),
    (text_for_scores, "AESTHETIC_SCORE"),
]


@pytest.mark.parametrize(
    ("damage", "told", "workers", "files"),
    [
        (overwrite, "truncated or damaged", 2, 100),
        *((*each, 1, 12) for each in DAMAGES),
        *(pytest.param(*each, 1, 100, marks=pytest.mark.long) for each in DAMAGES),
    ],
)
def test_one_bad_file_among_many(
    tmp_path: Path, damage: Callable[[Path], None], told: str, workers: int, files: int
) -> None:
    folder = many(tmp_path, files)
    bad = folder / "part-007.parquet"
    damage(bad)
    execution = Execution(workers=workers, rows_per_shard=1000)
    with pytest.raises(InputError, match=told) as caught:
        curate([str(folder)], tmp_path / "out", RULES, [], execution)
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    skipping = Execution(workers=workers, rows_per_shard=1000, skip_bad_files=True)
    record = curate([str(folder)], tmp_path / "out", RULES, [], skipping)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert [entry["name"] for entry in manifest["bad_files"]] == ["part-007.parquet"]
    assert told in manifest["bad_files"][0]["reason"]
    assert len(manifest["inputs"]) == files - 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []
    bad.unlink()
    without = curate([str(folder)], tmp_path / "without", RULES, [], execution)
    assert record == without
    assert digests(tmp_path / "out") == digests(tmp_path / "without")


def test_a_schema_without_a_score_says_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.parquet", 0, 10)
    no_score(path)
    with pytest.raises(InputError) as caught:
        curate([str(path)], tmp_path / "out", RULES, [])
    message = str(caught.value)
    for part in (str(path), "AESTHETIC_SCORE", "score.enabled", "TEXT"):
        assert part in message, message
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in"]


def test_no_good_file_at_all(tmp_path: Path) -> None:
    folder = many(tmp_path, 100)
    for path in folder.iterdir():
        cut_off(path)
    with pytest.raises(InputError, match=r"no file of .*many can be used; the first: .*part-000\.parquet"):
        curate([str(folder)], tmp_path / "out", RULES, [], Execution(skip_bad_files=True))
    assert [entry.name for entry in tmp_path.iterdir()] == ["many"]
