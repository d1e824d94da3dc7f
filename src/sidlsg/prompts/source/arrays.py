"""Arrow arrays of a file as a frame: texts checked for UTF-8, numbers of any type or as text, lists flattened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.columns import STRINGS
from sidlsg.prompts.source.problems import GIVEN, NOT_A_NUMBER, NOT_UTF8, UNREAD_SAFETY

_BLANK = " \t\r\n\ufeff"


def frame_of(arrays: Mapping[str, Any], rows: Any, rules: CurationRules) -> pl.DataFrame:
    """The wanted columns by meaning, with `problem`, `given` and `row` as `sidlsg.prompts.source.batches` has them."""
    if is_list(arrays["text"].type):
        texts, owners = _flattened(arrays["text"])
        arrays = {meaning: array.take(owners) for meaning, array in arrays.items() if meaning != "text"}
        arrays, rows = {"text": texts, **arrays}, rows[owners]
    text, given = texts_of(arrays["text"], rules.text.encoding)
    frame = pl.DataFrame({"text": text, "given": given, "row": pl.Series(rows, dtype=pl.UInt64)}).with_columns(
        problem=pl.when(pl.col("given").is_not_null()).then(pl.lit(NOT_UTF8, pl.String))
    )
    misread = {}
    for meaning in arrays.keys() - {"text"}:
        if meaning in STRINGS:
            values, _ = texts_of(arrays[meaning], rules.text.encoding)
        else:
            values, misread[meaning] = numbers_of(arrays[meaning])
        frame = frame.with_columns(values.alias(meaning))
    # Safety first: a row has one problem, and this one drops its text.
    for meaning, problem in (("punsafe", UNREAD_SAFETY), ("score", NOT_A_NUMBER)):
        if meaning in misread and misread[meaning].any():
            raw = texts_of(arrays[meaning], "latin-1")[0].str.slice(0, GIVEN).cast(pl.Binary)
            new = pl.col("problem").is_null() & misread[meaning]
            frame = frame.with_columns(
                given=pl.when(new).then(raw.alias("_raw")).otherwise("given"),
                problem=pl.when(new).then(pl.lit(problem)).otherwise("problem"),
            )
    return frame


def texts_of(array: Any, encoding: str = "") -> tuple[pl.Series, pl.Series]:
    """Strings, null where they are neither UTF-8 nor `encoding`, and the first bytes of those that are not."""
    if pa.types.is_dictionary(array.type):
        values = array.dictionary.cast(pa.large_binary())
        raw = pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()
    else:
        raw = array.cast(pa.large_binary())  # which checks nothing and is not limited to 2 GiB
    # Arrow checks UTF-8 much faster than Python, but reports only that something is wrong.
    try:
        valid = raw.view(pa.large_string())
        valid.validate(full=True)
    except pa.ArrowInvalid:
        values = raw.to_pylist()
        texts = [None if value is None else decoded(value, encoding) for value in values]
        pairs = zip(texts, values, strict=True)
        bad = [None if value is None or text is not None else value[:GIVEN] for text, value in pairs]
        return pl.Series(texts, dtype=pl.String), pl.Series(bad, dtype=pl.Binary)
    return pl.Series(pl.from_arrow(valid), dtype=pl.String), pl.repeat(None, len(raw), dtype=pl.Binary, eager=True)


def decoded(value: bytes, encoding: str) -> str | None:
    """A text in UTF-8, else in `encoding` unless that is empty; None where it is neither."""
    for name in ("utf-8", encoding):
        try:
            return value.decode(name) if name else None
        except UnicodeDecodeError:
            continue
    return None


def numbers_of(array: Any) -> tuple[pl.Series, pl.Series]:
    """Finite numbers, null elsewhere, and whether a value is a non-empty text that is not a number."""
    plain = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    if is_text(plain.type) and not pa.types.is_null(plain.type):
        texts = texts_of(plain, "latin-1")[0].str.strip_chars(_BLANK)
        values = texts.cast(pl.Float64, strict=False)
        misread = values.is_null() & (texts != "").fill_null(False)
    else:
        # Unsafe: integers past 2^53 lose digits that no rule looks at.
        values = pl.Series(pl.from_arrow(plain.cast(pa.float64(), safe=False)), dtype=pl.Float64)
        misread = pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
    return values.to_frame("value").select(pl.when(pl.col("value").is_finite()).then("value")).to_series(), misread


def _flattened(lists: Any) -> tuple[Any, Any]:
    """The values of all lists in order, a null for an empty list, and the index of each one's list."""
    long = lists.cast(pa.large_list(pa.large_binary()))
    parents = pc.list_parent_indices(long).to_numpy()
    lacking = np.setdiff1d(np.arange(len(long)), parents)
    values = pa.concat_arrays([pc.list_flatten(long), pa.nulls(len(lacking), pa.large_binary())])
    owners = np.concatenate([parents, lacking])
    order = np.argsort(owners, kind="stable")
    return values.take(order), owners[order]


def is_text(type_: Any) -> bool:
    """Whether a column of this type can hold texts; so can the null type, of a column without values."""
    plain, kinds = type_.value_type if pa.types.is_dictionary(type_) else type_, pa.types
    strings = (kinds.is_string, kinds.is_large_string, kinds.is_string_view, kinds.is_null)
    binaries = (kinds.is_binary, kinds.is_large_binary, kinds.is_binary_view, kinds.is_fixed_size_binary)
    return any(is_(plain) for is_ in (*strings, *binaries))


def is_number(type_: Any) -> bool:
    """Whether a column of this type can hold numbers; so can the null type, of a column without values."""
    plain, kinds = type_.value_type if pa.types.is_dictionary(type_) else type_, pa.types
    numbers = (kinds.is_floating, kinds.is_integer, kinds.is_decimal, kinds.is_boolean, kinds.is_null)
    return any(is_(plain) for is_ in numbers)


def is_list(type_: Any) -> bool:
    """Whether a column of this type holds lists of texts."""
    if not any(is_(type_) for is_ in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)):
        return False
    return is_text(type_.value_type) and not pa.types.is_dictionary(type_.value_type)
