"""Lines of text files: those that start in a range of bytes, block by block, each with its offset."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.content import MARK, open_content, skip
from sidlsg.prompts.source.files import InputFile
from sidlsg.prompts.source.local_copy import damage_named
from sidlsg.runtime.errors import InputError

BLOCK = 4 << 20
"""Bytes that are read at once."""


def longest(rules: CurationRules) -> int:
    """The bytes of a line that are kept: enough for a text that may pass, escaped as JSON may, with much beside it."""
    return rules.text.maximum_bytes * 8 + (64 << 10)


def read_lines(
    path: Path, file: InputFile, start: int, stop: int, limit: int, block: int = BLOCK
) -> Iterator[tuple[Any, list[bytes]]]:
    """Read the lines that start in `[start, stop)`, the last of them to its end.

    Lines end with `\\n`; a `\\r` before it does not count, nor does a byte order mark at a line's start, where files
    were put together. Blank lines are left out.

    Args:
        path: of the file's content.
        file: says whether it is packed; the bytes are then those of the unpacked content, in UTF-8.
        start: a byte.
        stop: another; 0 for the end of the file.
        limit: bytes of a line that are kept; the rest of a longer one is read and dropped. It is not cut within a
            character.
        block: bytes that are read at once.

    Yields:
        The offsets as uint64, and the lines, of one block.

    Raises:
        InputError: the file is missing, no text as its first line shows, or damaged.
        StorageError: the disk or the network did not give it.
    """
    with damage_named(file, file.packing.removeprefix(".") or "text"), open_content(path, file) as stream:
        for starts, lines in _split(stream, start, stop or sys.maxsize, limit, block):
            if starts[0] == 0 and b"\0" in lines[0]:
                raise InputError(f"{file.place} is no text, or UTF-16 without a byte order mark; save it as UTF-8")
            lines = [line.removeprefix(MARK) for line in lines]
            kept = [index for index, line in enumerate(lines) if line and not line.isspace()]
            if len(kept) < len(lines):
                starts, lines = starts[kept], [lines[index] for index in kept]
            if lines:
                yield starts.astype(np.uint64), lines


def _split(stream: IO[bytes], start: int, stop: int, limit: int, block: int) -> Iterator[tuple[Any, list[bytes]]]:
    # One byte before the start says whether a line begins there or another one goes on.
    position = max(start - 1, 0)
    skip(stream, position, block)
    is_foreign = start > 0
    begun, begun_at = b"", position
    while begun_at < stop and (data := stream.read(block)):
        first, *others = data.split(b"\n")
        room = limit + 1 - len(begun)
        begun += first[: max(room, 0)]
        if others:
            lines = [begun, *others[:-1]]
            lengths = np.fromiter(map(len, lines), np.int64, len(lines))
            lengths[0] = len(first)
            ends = position + np.cumsum(lengths + 1)
            starts = np.concatenate(([begun_at], ends[:-1]))
            begun, begun_at = others[-1][: limit + 1], int(ends[-1])
            many = int(np.searchsorted(starts, stop))
            skipped = int(is_foreign)
            is_foreign = False
            if skipped < many:
                yield starts[skipped:many], [_trimmed(line, limit) for line in lines[skipped:many]]
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
