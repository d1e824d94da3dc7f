"""The same rows give the same shards, however they are spread over files, cut, and worked on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sidlsg.prompts import plan as prepare
from sidlsg.prompts.curation import preview
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.rules import BalanceRule, CurationRules, ScoreRule
from sidlsg.prompts.shards import read_prompts
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate
from sidlsg.storage.records import PromptSet
from unit.prompts.planted import Corpus, plant

RULES = CurationRules(balance=BalanceRule(maximum_per_bin=300))
"""With every step that looks at more than one row, and three sets."""
SHARD = 200

Shards = dict[str, dict[str, str]]
"""Of each set, its shards' digests by path."""


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return plant(3, base=1200)


class Curation:
    """Curates variants of one corpus, each under the same label."""

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        self.corpus = corpus
        self.folder = folder
        self.count = 0

    def source(self, **how: Any) -> Path:
        self.count += 1
        return self.corpus.write(self.folder / f"in-{self.count}", **({"text": False} | how))

    def __call__(self, source: Path, rules: CurationRules = RULES, **execution: Any) -> tuple[Path, PromptSet]:
        self.count += 1
        output = self.folder / f"out-{self.count}"
        given = Execution(rows_per_shard=SHARD, **execution)
        record = curate([f"planted={source}"], output, rules, self.corpus.captions, given)
        return output, record


def shards(output: Path) -> Shards:
    sets = {path.parent.relative_to(output).as_posix(): path.parent for path in output.rglob(PromptSet.FILE)}
    found = {}
    for name, folder in sorted(sets.items()):
        record = PromptSet.load(folder)
        record.verify(folder)
        found[name] = {shard.path: shard.sha256 for shard in record.shards}
    return found


@pytest.fixture(scope="module")
def curation(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Curation:
    return Curation(corpus, tmp_path_factory.mktemp("same"))


@pytest.fixture(scope="module")
def source(curation: Curation) -> Path:
    return curation.source()


@pytest.fixture(scope="module")
def expected(curation: Curation, source: Path) -> tuple[Shards, PromptSet]:
    """Of one process, in one bucket."""
    output, record = curation(source)
    found = shards(output)
    assert found.keys() == {".", "cuts/6.25", "cuts/6.5"}
    assert len(found["."]) > 3
    assert {step.name for step in record.funnel} >= {"duplicates", "held_out_near", "near_duplicates", "balance"}
    assert all(step.rows_in > step.rows_out for step in record.funnel if step.name not in ("read", "tokens"))
    return found, record


Pieces = Callable[..., None]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Pieces:
    """Let a plan have small pieces and many buckets."""

    def change(bytes_per_text: int, rows_per_piece: int = prepare.ROWS_PER_PIECE) -> None:
        monkeypatch.setattr(prepare, "BYTES_PER_TEXT", bytes_per_text)
        monkeypatch.setattr(prepare, "ROWS_PER_PIECE", rows_per_piece)

    return change


def buckets(source: Path, memory_gb: float = 2.0, workers: int = 1) -> tuple[int, int]:
    plan = prepare.make_plan([f"planted={source}"], RULES, [], Execution(memory_gb=memory_gb, workers=workers))
    return plan.buckets, len(plan.pieces)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"names": "z{:03}"}, id="names", marks=pytest.mark.long),
        pytest.param({"shuffle": 1}, id="rows in another order", marks=pytest.mark.long),
        pytest.param({"files": 2, "row_group": 10_000}, id="two files", marks=pytest.mark.long),
        pytest.param({"files": 23, "row_group": 37, "names": "b-{:03}"}, id="many files and groups"),
        pytest.param({"files": 9, "row_group": 64, "shuffle": 2, "names": "x{:03}"}, id="all of it"),
    ],
)
def test_the_same_rows_in_other_files(
    curation: Curation, expected: tuple[Shards, PromptSet], how: dict[str, Any]
) -> None:
    output, record = curation(curation.source(**how))
    assert shards(output) == expected[0]
    assert record.funnel == expected[1].funnel


def test_files_in_another_order(
    curation: Curation, source: Path, expected: tuple[Shards, PromptSet], tmp_path: Path
) -> None:
    # The first file is now the last, in a separate folder.
    files = sorted(path for path in source.iterdir())
    for number, file in enumerate(reversed(files)):
        target = tmp_path / "in" / f"{number // 3}" / f"{number}{file.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    output, record = curation(tmp_path / "in")
    assert shards(output) == expected[0]
    assert record == expected[1]  # the files' digests are the same


def test_uris_in_another_order(
    source: Path, corpus: Corpus, expected: tuple[Shards, PromptSet], tmp_path: Path
) -> None:
    places = [f"planted={path}" for path in sorted(source.iterdir())]
    execution = Execution(rows_per_shard=SHARD)
    for seed in range(2):
        mixed = random.Random(seed).sample(places, len(places))
        record = curate(mixed, tmp_path / "out", RULES, corpus.captions, execution)
        assert shards(tmp_path / "out") == expected[0]
        assert record == expected[1]


@pytest.mark.parametrize(
    ("bytes_per_text", "count"), [(1_000_000, 2), pytest.param(10_000_000, 16, marks=pytest.mark.long)]
)
def test_other_numbers_of_buckets(
    curation: Curation,
    source: Path,
    expected: tuple[Shards, PromptSet],
    cut: Pieces,
    bytes_per_text: int,
    count: int,
) -> None:
    cut(bytes_per_text)
    found, _ = buckets(source)
    assert found >= count
    output, record = curation(source)
    assert shards(output) == expected[0]
    assert record == expected[1]


def test_little_memory(curation: Curation, source: Path, expected: tuple[Shards, PromptSet], cut: Pieces) -> None:
    cut(100_000)
    least = prepare.WORKER_GB * 1.21
    assert buckets(source, memory_gb=least)[0] > buckets(source)[0]
    output, record = curation(source, memory_gb=least)
    assert (shards(output), record) == expected


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_small_pieces_and_many_buckets_with_workers(
    curation: Curation, expected: tuple[Shards, PromptSet], cut: Pieces, workers: int
) -> None:
    small = curation.source(row_group=50)
    cut(5_000_000, 150)
    count, pieces = buckets(small, workers=workers)
    assert count >= 8
    assert pieces > 15
    output, record = curation(small, workers=workers)
    assert shards(output) == expected[0]
    assert record.funnel == expected[1].funnel


@pytest.mark.long
def test_ray(curation: Curation, expected: tuple[Shards, PromptSet], source: Path, cut: Pieces) -> None:
    cut(2_000_000, 600)
    assert buckets(source)[0] > 1
    output, record = curation(source, workers=2, engine="ray")
    assert (shards(output), record) == expected


@pytest.mark.long
def test_ray_raises_a_tasks_own_error(curation: Curation) -> None:
    damaged = curation.source()
    path = damaged / "part-000.parquet"
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"part-000\.parquet"):
        curation(damaged, workers=2, engine="ray")


@pytest.mark.long
def test_plain_text_too(curation: Curation, cut: Pieces) -> None:
    rules = CurationRules(score=ScoreRule(enabled=False))
    one, record = curation(curation.source(text=True), rules)
    cut(500_000, 1000)
    two, other = curation(curation.source(text=True, shuffle=5, files=7), rules, workers=2)
    assert shards(one) == shards(two)
    assert record.funnel == other.funnel


def files_of(output: Path) -> dict[str, bytes]:
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_every_file_of_the_output_is_the_same_however_the_work_is_cut(
    curation: Curation, source: Path, cut: Pieces
) -> None:
    output, _ = curation(source)
    cut(2_000_000, 600)
    one, two = files_of(output), files_of(curation(source, workers=2)[0])
    assert len(one) > 10
    assert one.keys() == two.keys()
    assert [name for name in sorted(one) if one[name] != two[name]] == []
    origins = pq.read_table(output / "origins").to_pylist()
    assert [row["id"] for row in origins] == list(range(len(read_prompts(output))))


@pytest.mark.parametrize("rows", [10_000_000, 0])
def test_a_dry_run_of_everything_has_the_same_funnel(
    corpus: Corpus, source: Path, expected: tuple[Shards, PromptSet], rows: int, tmp_path: Path
) -> None:
    rows = rows or sum(piece.rows for piece in prepare.make_plan([str(source)], RULES, []).pieces)
    before = sorted(source.rglob("*"))
    found, _ = preview([str(source)], RULES, corpus.captions, rows, Execution())
    assert [(name, step.rows_in, step.rows_out) for name, step in found.items()] == [
        (step.name, step.rows_in, step.rows_out) for step in expected[1].funnel
    ]
    assert sorted(source.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []
