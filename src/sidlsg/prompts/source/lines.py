"""Lines of text files: those that start in a range of bytes, block by block, each with its offset."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.content import MARK, damage_named, open_content
from sidlsg.prompts.source.files import InputFile
from sidlsg.runtime.errors import InputError

BLOCK = 4 << 20
"""Bytes read or returned at once."""


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
        block: bytes of lines that are returned at once.

    Yields:
        For each block, the offsets as uint64 and the lines.
    """
    with damage_named(file, file.packing.removeprefix(".") or "text"), open_content(path, file) as content:
        offsets: list[int] = []
        lines: list[bytes] = []
        size = 0
        for at, line in _lines(io.BufferedReader(content, BLOCK), start, stop or sys.maxsize, limit):
            if at == 0 and b"\0" in line:
                raise InputError(f"{file.place} is not text, or is UTF-16 without a byte order mark; save it as UTF-8")
            line = line.removeprefix(MARK)
            if line and not line.isspace():
                offsets.append(at)
                lines.append(line)
                size += len(line)
            if size >= block:
                yield np.array(offsets, np.uint64), lines
                offsets, lines, size = [], [], 0
        if lines:
            yield np.array(offsets, np.uint64), lines


def _lines(stream: io.BufferedReader, start: int, stop: int, limit: int) -> Iterator[tuple[int, bytes]]:
    """The offset and the content of each line that starts in `[start, stop)`."""
    # The byte before the start shows whether a line begins there or an earlier one continues.
    at = max(start - 1, 0)
    if stream.seekable():
        stream.seek(at)
    else:
        left = at
        while left and (data := stream.read(min(left, BLOCK))):
            left -= len(data)
    is_foreign = start > 0
    while at < stop and (line := stream.readline(limit + 2)):
        size, end = len(line), line
        while not end.endswith(b"\n") and (end := stream.readline(BLOCK)):
            size += len(end)
        if not is_foreign:
            yield at, _trimmed(line.removesuffix(b"\n"), limit)
        is_foreign = False
        at += size


def _trimmed(line: bytes, limit: int) -> bytes:
    """A line without its `\\r`, or the beginning of a long one up to a character's end."""
    if len(line) <= limit:
        return line.removesuffix(b"\r")
    end = limit
    while end > limit - 3 and line[end] & 0xC0 == 0x80:
        end -= 1
    return line[:end]
