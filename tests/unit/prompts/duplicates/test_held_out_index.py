import random

import numpy as np
import polars as pl
import pytest

from sidlsg.prompts.duplicates.held_out_index import HeldOutIndex
from sidlsg.runtime.errors import InputError


@pytest.fixture
def captions(random_key):
    draw = random.Random(3)
    return [random_key(draw, draw.randint(20, 60)) for _ in range(800)]


@pytest.fixture
def index(captions, tmp_path):
    HeldOutIndex.write(tmp_path, pl.Series(captions))
    return HeldOutIndex(tmp_path)


def test_nearest_caption_as_by_comparing_all(captions, near_copy, exact, tmp_path):
    draw = random.Random(4)
    # Near captions of one another, and the same one twice.
    captions = captions[:150] + [near_copy(draw, key, 0.9) for key in captions[:100]] + captions[:20]
    HeldOutIndex.write(tmp_path, pl.Series(captions))
    texts = [near_copy(draw, draw.choice(captions), draw.uniform(0.6, 1)) for _ in range(300)]
    found, similarity = HeldOutIndex(tmp_path).matches(pl.Series(texts), 0.75)
    missed = 0
    for text, number, value in zip(texts, found.tolist(), similarity.tolist(), strict=True):
        each = [exact(text, caption) for caption in captions]
        best = max(each)
        wanted = (each.index(best), best) if best >= 0.75 else (-1, 0.0)
        if (number, value) != wanted:
            assert number == -1  # what is found is right; a candidate may be missed, seldom
            missed += 1
    assert missed <= 1


def test_captions_and_their_short_forms_are_found(index, captions):
    found, similarity = index.matches(pl.Series(captions), 1.0)
    assert found.tolist() == list(range(len(captions)))
    assert similarity.tolist() == [1.0] * len(captions)
    found, similarity = index.matches(pl.Series(["q", "日本"]), 0.5)
    assert found.tolist() == [-1, -1]
    assert similarity.tolist() == [0.0, 0.0]
    assert [len(x) for x in index.matches(pl.Series([], dtype=pl.String), 0.75)] == [0, 0]


def test_blocks_do_not_count_and_many_equal_captions_give_the_first(monkeypatch, tmp_path, captions, near_copy):
    draw = random.Random(5)
    texts = pl.Series([near_copy(draw, key, 0.85) for key in captions[:50]] + captions[50:100])
    HeldOutIndex.write(tmp_path, pl.Series(captions + [captions[60]] * 3000))
    index = HeldOutIndex(tmp_path)
    whole = index.matches(texts, 0.75)
    assert whole[0][60] == 60
    for name in ("_PAIRS", "_EXACT"):
        monkeypatch.setattr(f"sidlsg.prompts.duplicates.held_out_index.{name}", 77)
    for got, wanted in zip(index.matches(texts, 0.75), whole, strict=True):
        assert np.array_equal(got, wanted)


@pytest.mark.usefixtures("index")
def test_the_same_captions_give_the_same_bytes(captions, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    HeldOutIndex.write(again, pl.Series(captions))
    names = sorted(path.name for path in again.iterdir())
    assert len(names) == 6
    assert all((again / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("name", ["keys", "captions", "filter", "sketches", "values", "offsets"])
def test_a_damaged_or_missing_file_is_named(tmp_path, name):
    path = tmp_path / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be read"):
        HeldOutIndex(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=rf"cannot be read .*{name}\.npy.*; run the same command again"):
        HeldOutIndex(tmp_path)
