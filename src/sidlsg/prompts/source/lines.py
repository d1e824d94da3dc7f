"""Lines of text files: those that start in a range of bytes, block by block, each with its offset."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.content import MARK, damage_named, open_content
from sidlsg.prompts.source.files import InputFile
from sidlsg.runtime.errors import InputError

BLOCK = 4 << 20
"""Bytes read at once."""


def longest(rules: CurationRules) -> int:
    """Bytes kept of a line: enough for the longest allowed text with JSON's escapes, and much other content."""
    return rules.text.maximum_bytes * 8 + (64 << 10)


def read_lines(
    path: Path, file: InputFile, start: int, stop: int, limit: int, block: int = BLOCK
) -> Iterator[tuple[Any, list[bytes]]]:
    """Read the lines that start in `[start, stop)`, the last of them to its end.

    Lines end with `\\n`. A `\\r` before it is removed, and so is a byte order mark at a line's start, where files were
    concatenated. Blank lines are skipped.

    Args:
        path: of the file's content.
        file: for its compression and messages.
        start: first byte, in the decompressed content in UTF-8.
        stop: byte after the last; 0 for the end of the file.
        limit: bytes kept of a line, cut between characters; the rest of a longer one is dropped.
        block: bytes read at once.

    Yields:
        For each block, the offsets as uint64 and the lines.
    """
    with damage_named(file, file.packing.removeprefix(".") or "text"), open_content(path, file) as stream:
        for starts, lines in _split(stream, start, stop or sys.maxsize, limit, block):
            if starts[0] == 0 and b"\0" in lines[0]:
                raise InputError(f"{file.place} is not text, or is UTF-16 without a byte order mark; save it as UTF-8")
            lines = [line.removeprefix(MARK) for line in lines]
            kept = [index for index, line in enumerate(lines) if line and not line.isspace()]
            if kept:
                yield starts[kept].astype(np.uint64), [lines[index] for index in kept]


def _split(stream: IO[bytes], start: int, stop: int, limit: int, block: int) -> Iterator[tuple[Any, list[bytes]]]:
    # The byte before the start shows whether a line begins there or an earlier one continues.
    position = max(start - 1, 0)
    if stream.seekable():
        stream.seek(position)
    else:
        rest = position
        while rest and (data := stream.read(min(rest, block))):
            rest -= len(data)
    is_foreign = start > 0
    begun, begun_at = b"", position
    while begun_at < stop and (data := stream.read(block)):
        first, *others = data.split(b"\n")
        begun += first[: max(limit + 1 - len(begun), 0)]
        if others:
            lines = [begun, *others[:-1]]
            lengths = np.fromiter(map(len, lines), np.int64, len(lines))
            lengths[0] = len(first)
            ends = position + np.cumsum(lengths + 1)
            starts = np.concatenate(([begun_at], ends[:-1]))
            begun, begun_at = others[-1][: limit + 1], int(ends[-1])
            inside = slice(int(is_foreign), int(np.searchsorted(starts, stop)))
            is_foreign = False
            if len(starts[inside]):
                yield starts[inside], [_trimmed(line, limit) for line in lines[inside]]
        position += len(data)
    if begun and begun_at < stop and not is_foreign:
        yield np.array([begun_at]), [_trimmed(begun, limit)]


def _trimmed(line: bytes, limit: int) -> bytes:
    """A line without its `\\r`, or the beginning of a long one up to a character's end."""
    if len(line) <= limit:
        return line.removesuffix(b"\r")
    end = limit
    while end > limit - 3 and line[end] & 0xC0 == 0x80:
        end -= 1
    return line[:end]
