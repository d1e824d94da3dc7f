from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sidlsg.prompts.shards import read_prompts
from sidlsg.runtime.errors import InputError
from sidlsg.stages.encode import encode
from sidlsg.storage.records import EmbeddingSet, PromptSet
from sidlsg.teacher.embeddings import EmbeddingReader, OnlineEmbeddings, TextEmbeddings, open_embeddings
from sidlsg.teacher.pipeline import Teacher, load_teacher

Encoded = Callable[[str], Path]


def open_source(embeddings: Path | None, prompts: Path, teacher: Teacher, dtype: str, device: str) -> TextEmbeddings:
    record = PromptSet.load(prompts)
    return open_embeddings(embeddings, record, lambda: read_prompts(prompts), teacher, dtype, device)


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return load_teacher(teacher_folder)


def test_shards_are_read_where_there_are_any(encoded: Encoded, prompts: Path, teacher: Teacher) -> None:
    given = open_source(encoded("float16"), prompts, teacher, "float16", "cpu")
    made = open_source(None, prompts, teacher, "float16", "cpu")
    assert isinstance(given, EmbeddingReader)
    assert isinstance(made, OnlineEmbeddings)
    for a, b in zip(given([7, 9], [False, True]), made([7, 9], [False, True]), strict=True):
        assert torch.equal(a, b)


def test_a_set_without_shards_means_encoding_during_training(prompts: Path, teacher: Teacher, tmp_path: Path) -> None:
    encode(prompts, teacher.folder, tmp_path / "set", "float16", 0.0, print)
    # It holds nothing in another type.
    source = open_source(tmp_path / "set", prompts, teacher, "float32", "cpu")
    assert isinstance(source, OnlineEmbeddings)
    assert torch.equal(source([3], [False])[0], open_source(None, prompts, teacher, "float32", "cpu")([3], [False])[0])


def test_the_text_encoder_leaves_the_device_where_shards_are_read(
    encoded: Encoded, prompts: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    monkeypatch.setattr(teacher.encode.text_encoders[0], "to", moved.append)
    open_source(None, prompts, teacher, "float16", "cpu")
    assert moved == []
    open_source(encoded("float16"), prompts, teacher, "float16", "cpu")
    assert moved == ["cpu"]


def test_embeddings_of_another_prompt_set_are_refused(
    encoded: Encoded, make_prompts: Callable[..., list[str]], teacher: Teacher, tmp_path: Path
) -> None:
    make_prompts(tmp_path / "other", first="the")
    with pytest.raises(InputError, match=r"encoded from prompt set [0-9a-f]{16}…, but [0-9a-f]{16}… was given"):
        open_source(encoded("float16"), tmp_path / "other", teacher, "float16", "cpu")


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_embeddings_of_another_text_encoder_are_refused(
    budget: float, prompts: Path, teacher: Teacher, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(teacher.folder, tmp_path / "teacher"))
    config = other / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layer_norm_eps": 1e-3}))
    encode(prompts, other, tmp_path / "set", "float16", budget, print)
    with pytest.raises(InputError, match="was encoded from text encoder"):
        open_source(tmp_path / "set", prompts, teacher, "float16", "cpu")


def test_embeddings_of_another_teacher_with_the_same_text_encoder_are_accepted(
    encoded: Encoded, prompts: Path, teacher: Teacher, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(teacher.folder, tmp_path / "teacher"))
    scheduler = other / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("}", "\n}"))
    loaded = load_teacher(other)
    assert loaded.sha256 != teacher.sha256
    assert isinstance(open_source(encoded("float16"), prompts, loaded, "float16", "cpu"), EmbeddingReader)


def test_a_wrong_count_is_refused(encoded: Encoded, prompts: Path, teacher: Teacher, tmp_path: Path) -> None:
    record = EmbeddingSet.load(encoded("float16"))
    (tmp_path / "set").mkdir()
    dataclasses.replace(record, count=4000).save(tmp_path / "set")
    assert PromptSet.load(prompts).count == 4136
    with pytest.raises(InputError, match="is of 4,000 prompts, but the prompt set has 4,136"):
        open_source(tmp_path / "set", prompts, teacher, "float16", "cpu")


def test_the_recipes_type_reaches_the_reader(encoded: Encoded, prompts: Path, teacher: Teacher) -> None:
    exact, rounded = (
        open_source(encoded("float32"), prompts, teacher, dtype, "cpu")([3], [False])[0]
        for dtype in ("float32", "float16")
    )
    assert torch.equal(exact.half().float(), rounded)
    assert not torch.equal(exact, rounded)


def test_a_folder_without_a_set_is_refused(prompts: Path, teacher: Teacher, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no EmbeddingSet record"):
        open_source(tmp_path, prompts, teacher, "float16", "cpu")
