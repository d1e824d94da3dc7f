"""The source table: one parquet file, read in batches and only in the columns that curation needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sidlsg.errors import InputError
from sidlsg.prompts.rules import CurationRules

MAGIC = b"PAR1"
"""The first and last bytes of every parquet file."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row on its way through curation."""

    text: str
    """Empty where the source has none."""
    source_row: int
    """The row of the source, counted from 0."""
    score: float
    """NaN where the source has none."""


def read_source(source: Path, rules: CurationRules) -> Iterator[Prompt]:
    """Read the rows of a parquet file in order, one batch in memory at a time.

    Raises:
        InputError: the file is missing, not parquet, truncated or damaged, or lacks a column that the rules name.
    """
    if not source.is_file():
        kind = "is a folder" if source.is_dir() else "does not exist"
        raise InputError(f"prompt file {source} {kind}; give one parquet file")
    try:
        with source.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise InputError(f"{source} is not a parquet file; give one parquet file")
        with pq.ParquetFile(source, page_checksum_verification=True) as table:
            _check_columns(table.schema_arrow, source, rules)
            row = 0
            for batch in table.iter_batches(columns=[rules.text_column, rules.score_column]):
                texts = batch.column(rules.text_column).to_pylist()
                scores = batch.column(rules.score_column).to_pylist()
                for text, score in zip(texts, scores, strict=True):
                    yield Prompt(text or "", row, math.nan if score is None else float(score))
                    row += 1
    except UnicodeDecodeError as error:
        raise InputError(
            f"column {rules.text_column!r} of {source} holds text that is not UTF-8; write the file again as UTF-8"
        ) from error
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"{source} cannot be read as parquet: it is truncated or damaged ({reason}); fetch or write it again"
        ) from error


def _check_columns(schema: Any, source: Path, rules: CurationRules) -> None:
    wanted = (
        ("text_column", rules.text_column, "strings", _is_text),
        ("score_column", rules.score_column, "numbers", _is_number),
    )
    for rule, name, kind, fits in wanted:
        found = schema.get_all_field_indices(name)
        if len(found) != 1:
            how = f"has {len(found)} columns {name!r}" if found else f"has no column {name!r}"
            raise InputError(f"{source} {how}; it has: {', '.join(schema.names)}; set {rule} to one of them")
        type_ = schema.field(found[0]).type
        if not fits(type_):
            raise InputError(
                f"column {name!r} of {source} holds {type_}, not {kind}; set {rule} to a column of {kind}, "
                f"out of: {', '.join(schema.names)}"
            )


def _is_text(type_: Any) -> bool:
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain))


def _is_number(type_: Any) -> bool:
    return bool(pa.types.is_floating(type_) or pa.types.is_integer(type_))
