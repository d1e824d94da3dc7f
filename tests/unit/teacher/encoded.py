"""A prompt set of three blocks, and its states from the bundled teacher."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import polars as pl
import pytest

from sidlsg.prompts.shards import SCHEMA, shard_name, write_table
from sidlsg.stages.encode import encode
from sidlsg.storage.records import PromptSet, file_ref
from sidlsg.teacher.shards import BLOCK

COUNT = 2 * BLOCK + 40
MakePrompts = Callable[..., list[str]]


def save_prompts(folder: Path, count: int = COUNT, first: str = "a") -> list[str]:
    """Write a prompt set and return its texts; parquet shards end elsewhere than blocks do."""
    colours = ("red", "blue", "black", "white", "green", "grey", "yellow")
    shapes = ("circle", "ring", "square", "cross", "star", "bar")
    pairs = product(colours, shapes, colours, shapes, ("left", "right", "below"))
    words = ((f"{c} {s} and a {d} {t} {side}") for c, s, d, t, side in pairs)
    texts = [f"{first} {text}" for text, _ in zip(words, range(count), strict=False)]
    assert len(texts) == count
    table = pl.DataFrame({"id": range(count), "text": texts}).with_columns(tokens=9, score=6.0, source=pl.lit("web"))
    shards = []
    (folder / "shards").mkdir(parents=True)
    for number, part in enumerate(table.iter_slices(1500)):
        shards.append(folder / "shards" / shard_name(number))
        write_table(part, SCHEMA, shards[-1])
    PromptSet(
        source_sha256="1" * 64,
        rules_sha256="2" * 64,
        held_out_sha256="3" * 64,
        count=count,
        shards=tuple(file_ref(shard, folder) for shard in shards),
        funnel=(),
    ).save(folder)
    return texts


@pytest.fixture
def make_prompts() -> MakePrompts:
    return save_prompts


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prompts")
    save_prompts(folder)
    return folder


@pytest.fixture(scope="session")
def texts(prompts: Path) -> list[str]:
    from sidlsg.prompts.shards import read_prompts

    return read_prompts(prompts)


@pytest.fixture(scope="session")
def teacher_folder(assets: Path) -> Path:
    return assets / "tiny-sd"


@pytest.fixture(scope="session")
def encoded(prompts: Path, teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the set in float16 or float32, not to be changed."""
    made: dict[str, Path] = {}

    def get(dtype: str) -> Path:
        if dtype not in made:
            made[dtype] = tmp_path_factory.mktemp("encoded") / dtype
            encode(prompts, teacher_folder, made[dtype], dtype, 1.0, lambda _: None)
        return made[dtype]

    return get
