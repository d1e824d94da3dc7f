from pathlib import Path

import pytest
import torch

from sidlsg.runtime.errors import InputError
from sidlsg.storage.tensors import save_tensors
from sidlsg.teacher.embeddings import KEY, SHARDS, blocks, write_embeddings
from sidlsg.teacher.shards import BLOCK, map_tensors, shard_path

SHAPE = (5, 3, 4)


def only(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """The one tensor of a file that is expected to have this shape."""
    return map_tensors(path, {KEY: shape[1:]}, shape[0], dtype, SHARDS)[KEY]


@pytest.fixture
def made() -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).half()


def test_embeddings_can_be_read_again_and_equal_ones_make_equal_files(made: torch.Tensor, tmp_path: Path) -> None:
    for number in (0, 1):
        write_embeddings(shard_path(tmp_path, number), made)
    first, second = shard_path(tmp_path, 0), shard_path(tmp_path, 1)
    assert [p.name for p in (first, second)] == ["00000.safetensors", "00001.safetensors"]
    assert torch.equal(only(first, SHAPE, torch.float16), made)
    assert first.read_bytes() == second.read_bytes()


def test_rows_are_read_when_they_are_used(tmp_path: Path) -> None:
    shape = (64, 256, 512)
    write_embeddings(tmp_path / "a", torch.zeros(shape))

    def private() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    before = private()
    mapped = only(tmp_path / "a", shape, torch.float32)
    assert float(mapped[7].sum()) == 0
    assert private() - before < mapped.nbytes / 4


@pytest.mark.parametrize(
    ("shape", "dtype"), [((6, 3, 4), torch.float16), ((5, 4, 3), torch.float16), (SHAPE, torch.float32)]
)
def test_other_embeddings_than_expected_are_refused(
    made: torch.Tensor, tmp_path: Path, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    write_embeddings(tmp_path / "a", made)
    with pytest.raises(InputError, match="but its record says"):
        only(tmp_path / "a", shape, dtype)


def test_a_file_that_is_not_a_shard_is_refused(made: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    save_tensors(tmp_path / "other", {"weights": made}, {})
    for name in ("text", "other", "nothing"):
        with pytest.raises(InputError, match="holds no text embeddings"):
            only(tmp_path / name, SHAPE, torch.float16)


def test_blocks_are_consecutive_and_only_the_last_is_shorter() -> None:
    texts = [f"text {i}" for i in range(2 * BLOCK + 3)]
    parts = list(blocks(texts))
    assert [len(part) for part in parts] == [BLOCK, BLOCK, 3]
    assert [text for part in parts for text in part] == texts
    assert [len(part) for part in blocks(["a"] * BLOCK)] == [BLOCK]
    assert list(blocks([])) == []


def test_no_more_is_read_than_a_block_needs() -> None:
    read: list[int] = []
    parts = blocks(read.append(i) or "a" for i in range(3 * BLOCK))
    next(parts)
    assert len(read) == BLOCK
