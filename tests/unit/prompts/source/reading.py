"""All rows of a small source file, however it is cut."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from sidlsg.prompts.rules import CurationRules, ScoreRule
from sidlsg.prompts.source.batches import check_file, read_batches
from sidlsg.prompts.source.files import InputFile, find_inputs
from sidlsg.prompts.source.parquet import cut_pieces
from sidlsg.runtime.errors import InputError

NO_SCORE = CurationRules(score=ScoreRule(enabled=False))


def one(path: Path) -> InputFile:
    """A file as it is found by itself, or in the partitioned table that it is a part of."""
    table = next((folder.parent for folder in reversed(path.parents) if "=" in folder.name), path)
    (file,) = (file for file in find_inputs([str(table)]) if file.place == str(path))
    return file


def all_rows(
    path: Path, rules: CurationRules = NO_SCORE, rows_per_piece: int = 1 << 40, batch_rows: int = 131_072
) -> pl.DataFrame:
    """What all pieces of a file hold, in their order."""
    file = one(path)
    pieces = cut_pieces(0, file, rows_per_piece)
    frames = [frame for piece in pieces for frame in read_batches(path, file, piece, rules, batch_rows)]
    assert all(0 < frame["row"].n_unique() <= batch_rows for frame in frames)
    return pl.concat(frames) if frames else pl.DataFrame()


def refusal(path: Path, rules: CurationRules = NO_SCORE) -> str:
    """The message with which a file is refused, one line that names it."""
    with pytest.raises(InputError) as caught:
        check_file(path, one(path), rules)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message
