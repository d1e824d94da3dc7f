import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.prompts import write_bundled_prompts
from sidlsg.bundled.shapes.captions import held_out_captions, training_captions
from sidlsg.prompts.held_out import read_held_out
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.shards import read_prompts
from sidlsg.stages.curate import curate

ASSETS = Path(__file__).parents[3] / "assets/prompts"
TRAINING = {caption.text for caption in training_captions()}
HELD_OUT = {caption.text for caption in held_out_captions()}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    write_bundled_prompts(SHAPES, folder)
    return folder


@pytest.fixture(scope="module")
def table():
    return pq.read_table(ASSETS / "prompts.parquet")


def test_the_committed_table_is_what_the_recipe_makes(made, table):
    assert table.equals(pq.read_table(made / "prompts.parquet"))
    assert digest(ASSETS / "held_out.txt") == digest(made / "held_out.txt")


def test_the_committed_bytes_are_what_the_recipe_makes(made):
    ours, theirs = (pq.read_metadata(folder / "prompts.parquet").created_by for folder in (ASSETS, made))
    if ours != theirs:
        pytest.skip(f"the committed file was written by {ours}, this is {theirs}: parquet files name their writer")
    assert digest(ASSETS / "prompts.parquet") == digest(made / "prompts.parquet")


def test_another_seed_makes_another_table_with_the_same_held_out_list(made, tmp_path):
    write_bundled_prompts(SHAPES, tmp_path, seed=1)
    assert digest(tmp_path / "prompts.parquet") != digest(made / "prompts.parquet")
    assert digest(tmp_path / "held_out.txt") == digest(made / "held_out.txt")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_curation_keeps_exactly_the_training_captions(tmp_path, seed):
    source = ASSETS
    if seed:
        source = tmp_path
        write_bundled_prompts(SHAPES, source, seed=seed)
    held_out = read_held_out(source / "held_out.txt")
    record = curate(source / "prompts.parquet", tmp_path / "out", CurationRules(), held_out)
    # Of texts that differ in case, the one with the best score stays.
    texts = [text.lower() for text in read_prompts(tmp_path / "out")]
    assert len(texts) == 576
    assert set(texts) == TRAINING
    assert not set(texts) & HELD_OUT
    # The table has no unsafe and no foreign texts, and none that are like others: each caption is another image.
    dropping = [step.name for step in record.funnel if step.rows_out < step.rows_in]
    assert dropping == ["text", "score", "clean", "junk", "length", "duplicates", "held_out"]


def test_the_held_out_list_is_complete():
    assert read_held_out(ASSETS / "held_out.txt") == sorted(HELD_OUT, key=str.split)
    assert len(HELD_OUT) == 96


def test_the_table_has_the_shape_of_laion_aesthetics(table):
    names = ["URL", "TEXT", "WIDTH", "HEIGHT", "similarity", "punsafe", "pwatermark", "AESTHETIC_SCORE"]
    assert table.schema.names == names
    assert pa.types.is_string(table.schema.field("TEXT").type)
    assert 3000 <= table.num_rows <= 5000
    assert (ASSETS / "prompts.parquet").stat().st_size < 300_000


def test_addresses_lead_nowhere(table):
    urls = table["URL"].to_pylist()
    assert all(url.startswith("https://example.invalid/") for url in urls)
    assert len(set(urls)) == len(urls)


def test_the_dirt_is_there(table):
    rows = list(zip(table["TEXT"].to_pylist(), table["AESTHETIC_SCORE"].to_pylist(), strict=True))
    good = [text for text, score in rows if score >= 6]
    assert set(good) >= TRAINING
    assert set(good) >= HELD_OUT
    assert {None, "", "https://example.invalid/"} <= set(good)
    assert any(text and text.upper() == text and text.endswith("BACKGROUND!") for text in good)
    assert {f"{text}." for text in HELD_OUT} & set(good)
    for mark in ("&quot;", "&nbsp;", "“", "<b>", "   "):
        assert any(mark in text for text in good if text)
    assert sum(score < 6 for _, score in rows) == 1500
