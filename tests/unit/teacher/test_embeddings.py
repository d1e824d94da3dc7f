"""Shards and encoding during training: the same states, on demand, and nothing else than what was encoded."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sidlsg.runtime.errors import InputError
from sidlsg.stages.encode import encode
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import EmbeddingSet, FileRef
from sidlsg.teacher import shards as module
from sidlsg.teacher.embeddings import EmbeddingReader, OnlineEmbeddings
from sidlsg.teacher.pipeline import Teacher, load_teacher
from sidlsg.teacher.shards import BLOCK, MAPPED

Encoded = Callable[[str], Path]


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return load_teacher(teacher_folder)


@pytest.fixture
def copy(encoded: Encoded, tmp_path: Path) -> Path:
    """A set in float16, to be spoiled."""
    return Path(shutil.copytree(encoded("float16"), tmp_path / "set"))


def flip(path: Path) -> None:
    """Change one byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_shards_and_encoding_during_training_give_the_same(
    encoded: Encoded, teacher: Teacher, texts: list[str], dtype: str
) -> None:
    read, made = EmbeddingReader(encoded(dtype), "cpu", dtype), OnlineEmbeddings(teacher.encode, texts, dtype)
    assert torch.equal(read.uncond, made.uncond)
    indices = [5, BLOCK - 1, BLOCK, 5, len(texts) - 1, 2 * BLOCK, 17]
    replaced = [False, False, False, True, False, True, False]
    (cond, uncond), (cond_made, uncond_made) = read(indices, replaced), made(indices, replaced)
    assert cond.dtype == uncond.dtype == cond_made.dtype == torch.float32
    assert (cond.shape, uncond.shape) == ((7, 16, 96), (1, 16, 96))
    assert torch.equal(cond, cond_made)
    assert torch.equal(uncond, uncond_made)
    assert torch.equal(cond[3], uncond[0])
    assert not torch.equal(cond[0], cond[3])
    # Whatever else is asked for with it, and whatever was asked before.
    assert torch.equal(made([17], [False])[0][0], cond[6])
    assert torch.equal(read([17], [False])[0][0], cond[6])


def test_embeddings_are_rounded_to_the_recipes_type(teacher: Teacher, texts: list[str]) -> None:
    exact, rounded = (OnlineEmbeddings(teacher.encode, texts, dtype) for dtype in ("float32", "float16"))
    for a, b in zip(exact([3], [False]), rounded([3], [False]), strict=True):
        assert torch.equal(a.half().float(), b)
        assert not torch.equal(a, b)


def test_shards_in_float32_serve_a_recipe_that_rounds_to_float16(encoded: Encoded) -> None:
    indices, replaced = [3, BLOCK, 9], [False, False, True]
    rounded = EmbeddingReader(encoded("float32"), "cpu", "float16")(indices, replaced)
    for a, b in zip(rounded, EmbeddingReader(encoded("float16"), "cpu", "float16")(indices, replaced), strict=True):
        assert torch.equal(a, b)


def test_shards_in_float16_do_not_serve_a_recipe_in_float32(encoded: Encoded) -> None:
    with pytest.raises(InputError, match="in float16, but the recipe's text_states is float32; encode with dtype"):
        EmbeddingReader(encoded("float16"), "cpu", "float32")


def test_a_batch_stays_what_it_was_when_the_next_is_read(encoded: Encoded) -> None:
    read = EmbeddingReader(encoded("float32"), "cpu", "float32")
    first = read([0, 1], [False, False])[0]
    before = first.clone()
    read([2, 3], [False, True])
    first[0] += 1
    assert torch.equal(read([0, 1], [False, False])[0], before)


def test_a_shard_is_checked_when_it_is_first_used_and_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr(module, "MAPPED", 1)
    monkeypatch.setattr(module, "sha256_file", lambda path: checked.append(path.name) or sha256_file(path))
    read = EmbeddingReader(copy, "cpu", "float16")
    assert checked == ["uncond.safetensors"]
    for index in (0, BLOCK, 1, BLOCK + 1, 0):
        read([index], [False])
    assert checked == ["uncond.safetensors", "00000.safetensors", "00001.safetensors"]


def test_few_shards_are_kept_mapped(copy: Path) -> None:
    # As many shards as a set of 18 blocks has: all the same file.
    record = EmbeddingSet.load(copy)
    dataclasses.replace(record, count=18 * BLOCK, shards=(record.shards[0],) * 18).save(copy)
    read = EmbeddingReader(copy, "cpu", "float16")
    for number in range(18):
        read([number * BLOCK], [False])
    assert read._rows._shard.cache_info().currsize == MAPPED


@pytest.mark.parametrize("change", [flip, lambda path: path.write_bytes(path.read_bytes()[:-50])])
def test_a_damaged_shard_is_refused_where_it_is_used(copy: Path, change: Callable[[Path], None]) -> None:
    change(copy / "shards" / "00001.safetensors")
    read = EmbeddingReader(copy, "cpu", "float16")
    read([0, 2 * BLOCK], [False, False])
    for _ in range(2):
        with pytest.raises(InputError, match=r"00001\.safetensors differs from what embedding_set\.json says"):
            read([0, BLOCK], [False, False])


def test_a_missing_shard_is_refused(copy: Path) -> None:
    (copy / "shards" / "00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"00002\.safetensors is missing"):
        EmbeddingReader(copy, "cpu", "float16")([2 * BLOCK], [False])


def test_a_damaged_empty_prompt_is_refused(copy: Path) -> None:
    flip(copy / "uncond.safetensors")
    with pytest.raises(InputError, match=r"uncond\.safetensors differs"):
        EmbeddingReader(copy, "cpu", "float16")


def test_a_shard_elsewhere_is_refused(copy: Path) -> None:
    record = EmbeddingSet.load(copy)
    remote = FileRef(path="s3://bucket/00000.safetensors", sha256="0" * 64)
    dataclasses.replace(record, shards=(remote, *record.shards[1:])).save(copy)
    with pytest.raises(InputError, match=r"s3://bucket/00000\.safetensors .* is not on this machine"):
        EmbeddingReader(copy, "cpu", "float16")([0], [False])


def test_a_set_with_another_count_of_shards_is_refused(copy: Path) -> None:
    record = EmbeddingSet.load(copy)
    dataclasses.replace(record, shards=record.shards[:2]).save(copy)
    with pytest.raises(InputError, match="names 2 shards, but its 4,136 prompts have 3"):
        EmbeddingReader(copy, "cpu", "float16")
    dataclasses.replace(record, dtype="bfloat16").save(copy)
    with pytest.raises(InputError, match="embeddings in 'bfloat16'; allowed: float16, float32"):
        EmbeddingReader(copy, "cpu", "float16")


def test_a_shard_of_another_shape_is_refused(copy: Path) -> None:
    record = EmbeddingSet.load(copy)
    dataclasses.replace(record, shards=(record.shards[2], *record.shards[1:])).save(copy)
    with pytest.raises(InputError, match="but its record says"):
        EmbeddingReader(copy, "cpu", "float16")([0], [False])


def test_a_set_without_shards_is_refused(prompts: Path, teacher_folder: Path, tmp_path: Path) -> None:
    encode(prompts, teacher_folder, tmp_path / "set", "float16", 0.0, print)
    with pytest.raises(InputError, match=r"names 0 shards.*larger budget"):
        EmbeddingReader(tmp_path / "set", "cpu", "float16")
