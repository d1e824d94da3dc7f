"""Arrays of a file as series: texts checked for UTF-8, numbers of any type or written as text, lists taken apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sidlsg.prompts.source.csv_files import GIVEN

_BLANK = " \t\r\n\ufeff"


def texts_of(array: Any, encoding: str = "") -> tuple[pl.Series, pl.Series]:
    """Strings, null where they are neither UTF-8 nor `encoding`, and the first bytes of those that are not."""
    raw = _raw(array)
    # Arrow checks UTF-8 much faster than Python, but says only that something is wrong.
    try:
        valid = raw.view(pa.large_string())
        valid.validate(full=True)
    except pa.ArrowInvalid:
        values = raw.to_pylist()
        texts = [None if value is None else decoded(value, encoding) for value in values]
        pairs = zip(texts, values, strict=True)
        bad = [None if value is None or text is not None else value[:GIVEN] for text, value in pairs]
        return pl.Series(texts, dtype=pl.String), pl.Series(bad, dtype=pl.Binary)
    return _series(valid, pl.String), pl.repeat(None, len(raw), dtype=pl.Binary, eager=True)


def decoded(value: bytes, encoding: str) -> str | None:
    """A text in UTF-8, else in another encoding, if one is named; None where it is in neither."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        if not encoding:
            return None
    try:
        return value.decode(encoding)
    except UnicodeDecodeError:
        return None


def numbers_of(array: Any) -> tuple[pl.Series, pl.Series]:
    """Finite numbers, null where there is none, and where a text that is not empty is none."""
    plain = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    if is_text(plain.type) and not pa.types.is_null(plain.type):
        texts = texts_of(plain, "latin-1")[0].str.strip_chars(_BLANK)
        values = texts.cast(pl.Float64, strict=False)
        misread = values.is_null() & (texts != "").fill_null(False)
    else:
        # Unsafe: integers past 2^53 lose digits that no rule looks at.
        values = _series(plain.cast(pa.float64(), safe=False), pl.Float64)
        misread = pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
    return values.to_frame("value").select(pl.when(pl.col("value").is_finite()).then("value")).to_series(), misread


def unlisted(lists: Any) -> tuple[Any, Any]:
    """The values of lists one after the other, a null for a list without any, and which list each is of."""
    long = lists.cast(pa.large_list(pa.large_binary()))
    parents = pc.list_parent_indices(long).to_numpy()
    lacking = np.setdiff1d(np.arange(len(long)), parents)
    values = pa.concat_arrays([pc.list_flatten(long), pa.nulls(len(lacking), pa.large_binary())])
    owners = np.concatenate([parents, lacking])
    order = np.argsort(owners, kind="stable")
    return values.take(order), owners[order]


def is_text(type_: Any) -> bool:
    """Whether a column of this type can hold texts; null stands for one in which every row is."""
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    bytes_ = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(is_(plain) for is_ in kinds + bytes_)


def is_number(type_: Any) -> bool:
    """Whether a column of this type holds numbers; null stands for one in which every row is."""
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    return any(is_(plain) for is_ in kinds)


def is_list(type_: Any) -> bool:
    """Whether a column of this type holds lists of texts."""
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_(type_) for is_ in kinds):
        return False
    return is_text(type_.value_type) and not pa.types.is_dictionary(type_.value_type)


def _raw(array: Any) -> Any:
    """Strings or bytes as large binary, which checks nothing and has no end at 2 GiB."""
    if pa.types.is_dictionary(array.type):
        values = array.dictionary.cast(pa.large_binary())
        return pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()
    return array.cast(pa.large_binary())


def _series(array: Any, type_: type[pl.DataType]) -> pl.Series:
    series = pl.from_arrow(array)
    return pl.Series(series, dtype=type_)
