"""Explanation of one row: which step of a finished curation dropped it and why, or which prompt it became."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from sidlsg.prompts.duplicates.shingles import jaccard_of_keys
from sidlsg.prompts.held_out import held_out_digest
from sidlsg.prompts.phases.exact_duplicates import caption_keys, clean_captions
from sidlsg.prompts.phases.row_steps import Funnel, row_steps, step_demands
from sidlsg.prompts.phases.selection import CUTS
from sidlsg.prompts.plan import BadFile, unsafe_words
from sidlsg.prompts.prompt_set import MANIFEST, NEAR_DUPLICATES, rules_digest
from sidlsg.prompts.rule_files import rules_with
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.batches import read_row
from sidlsg.prompts.source.content import local_copy
from sidlsg.prompts.source.files import InputFile
from sidlsg.prompts.source.problems import shown
from sidlsg.prompts.text.keys import content_words_keys, digests, same_text_keys, same_words_keys
from sidlsg.prompts.text.tokens import token_counts
from sidlsg.runtime.errors import InputError, first_line
from sidlsg.runtime.parsing import read_object
from sidlsg.runtime.validation import first_mistake
from sidlsg.storage.records import FileRef, PromptSet


@dataclass(frozen=True)
class _Manifest:
    """The fields of a manifest that are used here."""

    inputs: tuple[InputFile, ...]
    bad_files: tuple[BadFile, ...]
    rules: dict[str, Any]


def explain(row: str, output: Path, held_out: Sequence[str]) -> list[str]:
    """What became of a row, in lines of text.

    Args:
        row: `FILE:ROW`, a file of the manifest and its row as in `Piece`; or a prompt's id.
        output: folder of a prompt set that `curate` wrote.
        held_out: the set's evaluation captions.

    Raises:
        InputError: there is no such set, file or row, or the captions are others.
        StorageError: an S3 server did not deliver the file.
    """
    try:
        return _explained(row, output, held_out)
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        reason = first_line(error)
        raise InputError(f"a file of {output} cannot be read ({reason}); run the curate stage again") from error


def _explained(row: str, output: Path, held_out: Sequence[str]) -> list[str]:
    record = PromptSet.load(output)
    manifest = _manifest(output)
    if row.isdigit():
        return _prompt(int(row), output, record)
    name, colon, number = row.rpartition(":")
    left_out = {entry.name: entry.reason for entry in manifest.bad_files}
    if name in left_out:
        return [f"{row}: the file was left out: {left_out[name]}"]
    files = {file.name: file for file in manifest.inputs}
    if not colon or not number.isdigit() or name not in files:
        some = ", ".join([*list(files)[:5], *(["…"] if len(files) > 5 else [])])
        raise InputError(
            f"{row!r} is not a row of {output}; give FILE:ROW with a file of its manifest ({some}), or an id"
        )
    if held_out_digest(held_out) != record.held_out_sha256:
        raise InputError(f"{output} was made with another held-out list; give that one by --held-out")
    rules = rules_with(manifest.rules)
    if rules_digest(rules, unsafe_words(rules)) != record.rules_sha256:
        of = rules.unsafe.words_file or "of this package"
        raise InputError(f"{output} was made with another list of unsafe words than the one {of}; put that one back")
    with local_copy(files[name]) as path:
        rows = read_row(path, files[name], rules, int(number))
    lines = []
    # A row with a list has several texts.
    for each in rows.iter_slices(1):
        lines.append(f"{row}: {_quoted(each['text'][0])}")
        lines += _fate(each, (name, int(number)), rules, held_out, output, record)
    return lines


def _fate(
    rows: pl.DataFrame,
    origin: tuple[str, int],
    rules: CurationRules,
    held_out: Sequence[str],
    output: Path,
    record: PromptSet,
) -> list[str]:
    funnel = Funnel()
    kept = row_steps(rows, rules, unsafe_words(rules), funnel)
    demands = step_demands(rules)
    for step, count in funnel.steps.items():
        if count.rows_in and not count.rows_out:
            why = next(iter(count.samples.values()), ["", _no_text(rows)])[1]
            return [f"dropped by {step}, which keeps {demands[step]}" + (f": {why}" if why else "")]
    text = kept["text"]
    lines = [f"clean: {_quoted(text[0])}"] if text[0] != rows["text"][0] else []
    key = digests(same_text_keys(text), rules.order.seed)[0]
    found = _find(output, record, key, rules.order.seed)
    if found:
        return [*lines, _same_text(found, rules, output, origin)]
    tokens = int(token_counts(text)[0])
    most = rules.length.maximum_tokens
    if tokens < rules.length.minimum_tokens or (most and tokens > most):
        return [*lines, f"dropped by tokens, which keeps {demands['tokens']}: it has {tokens}"]
    like = _like_caption(text, rules, held_out)
    if like:
        return [*lines, like]
    kept_key = _kept_instead(output, key)
    if kept_key is not None:
        others = _find(output, record, kept_key, rules.order.seed)
        if not others:
            return [*lines, "dropped by near_duplicates, for a text that balance dropped in its turn"]
        identity, other = others[0]
        similarity = jaccard_of_keys(same_words_keys(text), same_words_keys(pl.Series([other])))[0]
        chain = "" if similarity >= rules.duplicates.similarity else ", through others that are like both"
        return [
            *lines,
            f"dropped by near_duplicates: its group has prompt {identity}, {_quoted(other)}, "
            f"with similarity {similarity:.2f}{chain}",
        ]
    if rules.balance.maximum_per_bin:
        return [*lines, f"dropped by balance, which keeps {demands['balance']}: it has {tokens} tokens"]
    return [*lines, "it passes every step, and yet is not in the set: the set was made by other code"]


def _no_text(rows: pl.DataFrame) -> str:
    """Why a row has no text; samples do not show such rows."""
    given = rows["given"][0]
    return f"it has {rows['problem'][0]}" + (f', "{shown(given)}"' if given else "")


def _same_text(found: list[tuple[int, str]], rules: CurationRules, output: Path, row: tuple[str, int]) -> str:
    # Several, where equal texts are kept.
    origins = [_origin(output, identity) for identity, _ in found]
    for (identity, _), origin in zip(found, origins, strict=True):
        if (origin["file"], origin["row"]) == row:
            return f"kept: it is prompt {identity}"
    (identity, text), origin = found[0], origins[0]
    step = "duplicates" if rules.duplicates.exact else "near_duplicates"
    return (
        f"dropped by {step}: {_rows(origin['copies'])} this text, and prompt {identity}, {_quoted(text)}, was "
        f"taken from {origin['file']}:{origin['row']}"
    )


def _like_caption(text: pl.Series, rules: CurationRules, held_out: Sequence[str]) -> str:
    """Why a text is like a held-out caption, empty where it is not."""
    if not held_out:
        return ""
    captions, rule = clean_captions(tuple(held_out)), rules.held_out
    keys = caption_keys(tuple(held_out))
    same = (keys == same_words_keys(text)[0]).arg_true()
    if rule.words and len(same):
        return f"dropped by held_out: it has the words of {_quoted(captions[same[0]])}"
    same = (content_words_keys(captions) == content_words_keys(text)[0]).arg_true()
    if rule.content_words and len(same):
        return f"dropped by held_out: it has the meaning words of {_quoted(captions[same[0]])}"
    similarity = jaccard_of_keys(same_words_keys(text).new_from_index(0, len(keys)), keys)
    best = int(similarity.argmax())
    if rule.similarity and similarity[best] >= rule.similarity:
        return f"dropped by held_out_near: similarity {similarity[best]:.2f} to {_quoted(captions[best])}"
    return ""


def _prompt(identity: int, output: Path, record: PromptSet) -> list[str]:
    if identity >= record.count:
        raise InputError(f"{output} has no prompt {identity}; its ids go from 0 to {record.count - 1}")
    for shard in record.shards:
        table = pl.read_parquet(output / shard.path)
        if table["id"][-1] >= identity:
            row = table.row(identity - table["id"][0], named=True)
            origin = _origin(output, identity)
            score = "no score" if row["score"] is None else f"score {row['score']:.3f}"
            return [
                f"prompt {identity}: {_quoted(row['text'])}",
                f"{row['tokens']} tokens, {score}, from {row['source']}, {origin['file']}:{origin['row']}, "
                f"{_rows(origin['copies'])} its text",
            ]
    raise InputError(f"{output} is damaged: no shard has prompt {identity}; run the curate stage again")


def _find(output: Path, record: PromptSet, key: np.ndarray[Any, Any], seed: int) -> list[tuple[int, str]]:
    """The prompts with a key, by bisection of the shards, which are in the order of keys."""

    def first_key(shard: FileRef) -> tuple[int, ...]:
        with pq.ParquetFile(output / shard.path) as table:
            first = next(table.iter_batches(1, columns=["text"])).column(0).to_pylist()
        return tuple(digests(same_text_keys(pl.Series(first)), seed)[0])

    found: list[tuple[int, str]] = []
    # Equal texts may begin in earlier shards.
    for number in range(max(0, bisect_right(record.shards, tuple(key), key=first_key) - 1), -1, -1):
        table = pl.read_parquet(output / record.shards[number].path, columns=["id", "text"])
        same = (digests(same_text_keys(table["text"]), seed) == key).all(axis=1)
        found = [*table.filter(pl.Series(same)).rows(), *found]
        if not same[0]:
            break
    return found


def _kept_instead(output: Path, key: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    path = output / NEAR_DUPLICATES
    if not path.is_file():
        return None
    wanted = key.astype(">u8").tobytes()
    found = pq.read_table(path, filters=[("key", "==", wanted)]).column("kept").to_pylist()
    return np.frombuffer(found[0], dtype=">u8").astype(np.uint64) if found else None


def _origin(output: Path, identity: int) -> dict[str, Any]:
    found = pq.read_table(output / "origins", filters=[("id", "==", identity)]).to_pylist()
    if not found:
        raise InputError(f"{output} has no origin of prompt {identity}; run the curate stage again")
    origin: dict[str, Any] = found[0]
    return origin


def _manifest(output: Path) -> _Manifest:
    advice = "run the curate stage again"
    if output.parent.name == CUTS and not (output / MANIFEST).is_file():
        whole = output.parent.parent
        raise InputError(f"{output} is a cut of the set {whole}, which knows all rows; ask that one")
    try:
        return TypeAdapter(_Manifest).validate_python(read_object(output / MANIFEST, advice))
    except ValidationError as error:
        wrong = first_mistake(error, "the whole")
        raise InputError(f"{output / MANIFEST} is not a manifest: {wrong}; {advice}") from error


def _rows(count: int) -> str:
    return "1 row has" if count == 1 else f"{count:,} rows have"


def _quoted(text: str | None) -> str:
    if text is None:
        return "no text"
    return json.dumps(text if len(text) <= 300 else f"{text[:300]}…", ensure_ascii=False)
