"""The plan of a curation: what every task must know, stored in the work folder before the first one runs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter

from sidlsg.prompts import NUMERICS
from sidlsg.prompts.rules import Columns, CurationRules
from sidlsg.prompts.source.batches import check_file
from sidlsg.prompts.source.columns import wanted
from sidlsg.prompts.source.files import InputFile, PassedOver, search_inputs
from sidlsg.prompts.source.parquet import Piece, cut_pieces
from sidlsg.prompts.text.junk import read_unsafe_words
from sidlsg.prompts.text.language import check_language
from sidlsg.prompts.work import Work
from sidlsg.runtime.errors import InputError
from sidlsg.storage.uri import UNSAFE_WORDS, resolve

PLAN_FILE = "plan.json"
ROWS_PER_PIECE = 1 << 20
"""Rows that a task reads: some seconds of work."""
WORKER_GB = 0.4
"""Memory of a worker without rows: Python, Polars, Arrow, and a batch being read."""
LEAST_SAMPLED = 4096
"""Rows sampled from a piece that has as many: fewer would cost more to seek than to read."""
BYTES_PER_ROW = 500
"""Memory of a row that waits to be written, with its sorted copy."""
BYTES_PER_TEXT = 1300
"""Peak memory of a text of a bucket, with copies for sorting and its bands."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a curation runs; none of it changes the result, except skipped files."""

    engine: str = "native"
    """`native` for this machine, `ray`, `ray:auto` or `ray://HOST:PORT`."""
    workers: int = 1
    """Tasks at once."""
    memory_gb: float = 2.0
    """Memory for all workers of this machine, in 10⁹ bytes."""
    work: str = ""
    """A folder or S3 prefix for unfinished work; by default next to the output."""
    rows_per_shard: int = 65536
    """Most prompts in one shard of the output."""
    skip_bad_files: bool = False
    """Leave out files that cannot be read, and list them in the manifest."""


IN_PROCESS = Execution()


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """A file that is left out."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A curation, cut into pieces and buckets. The cuts bound memory and do not change the result."""

    files: tuple[InputFile, ...]
    pieces: tuple[Piece, ...]
    bad_files: tuple[BadFile, ...]
    """Files that could not be opened, and were skipped."""
    passed_over: tuple[PassedOver, ...]
    """Files of the sources' folders that are not read."""
    skip_bad_files: bool
    """Leave out a file that turns out to be damaged, instead of failing."""
    rules: CurationRules
    unsafe_words: tuple[str, ...]
    held_out: tuple[str, ...]
    """Evaluation captions."""
    buckets: int
    """Parts by the first bits of the texts' keys; a power of two."""
    rows_per_shard: int
    rows_collected: int = 1 << 20
    """Rows of a piece held in memory before they are written."""
    sample_rows: int = 0
    """Most rows read of a piece; 0 for all."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The sources' names, sorted."""
        return tuple(sorted({file.label for file in self.files}))

    @property
    def cuts(self) -> tuple[float | None, ...]:
        """Minimum scores of the sets to write: None for the whole set, then the rules' cuts."""
        return (None, *(self.rules.score.cuts if self.rules.score.enabled else ()))

    def key(self) -> str:
        """Digest of everything that the result depends on: only an equal curation resumes an earlier one."""
        stamps = [f"{file.size} {file.version}" for file in self.files]
        # Work before a damaged file, or cut more finely than needed, is valid for other values of these.
        plan = replace(self, passed_over=(), skip_bad_files=False, buckets=1, rows_collected=1)
        return hashlib.sha256(json.dumps([plan.to_json(), stamps, NUMERICS]).encode()).hexdigest()

    def to_json(self) -> str:
        """As text."""
        return TypeAdapter(Plan).dump_json(self).decode()

    @staticmethod
    def load(work: Work) -> Plan:
        """The plan of a work folder.

        Raises:
            ContentError: it has no plan.
        """
        return _parsed(work.store.read(PLAN_FILE))


@lru_cache(maxsize=2)
def _parsed(data: bytes) -> Plan:
    return TypeAdapter(Plan).validate_json(data)


def make_plan(
    sources: Sequence[str],
    rules: CurationRules,
    held_out: Sequence[str],
    execution: Execution = IN_PROCESS,
    sample: int = 0,
) -> Plan:
    """Find the inputs and cut the work; read about `sample` rows in all, spread over the inputs, or all for 0.

    Raises:
        InputError: an input or a number cannot be used.
        StorageError: a server did not answer.
    """
    workers, memory_gb, skip = execution.workers, execution.memory_gb, execution.skip_bad_files
    if execution.rows_per_shard < 1:
        raise InputError(f"rows_per_shard is {execution.rows_per_shard}; give 1 or more")
    if sample < 0:
        raise InputError(f"the sample is of {sample} rows; give 1 or more")
    least = workers * WORKER_GB * 1.2
    if not (math.isfinite(memory_gb) and memory_gb >= least):
        raise InputError(
            f"memory_gb is {memory_gb:g}, too little for {workers} worker{'s' if workers > 1 else ''}; "
            f"give {least:.2g} or more{', or fewer workers' if workers > 1 else ''}"
        )
    check_language(rules.language)
    found, passed_over = search_inputs(sources)
    files: list[InputFile] = []
    pieces: list[Piece] = []
    bad: list[BadFile] = []
    columns: set[str] = set()
    for file in found:
        try:
            # The columns of files on S3 are checked when they are read.
            if file.is_local:
                columns |= check_file(Path(file.place), file, rules)
            pieces += cut_pieces(len(files), file, ROWS_PER_PIECE)
            files.append(file)
        except InputError as error:
            if not skip:
                raise
            bad.append(BadFile(name=file.name, reason=str(error)))
    if files and all(file.is_local for file in files):
        _require_named(rules, columns)
    if not pieces:
        reason = f"; the first: {bad[0].reason}" if bad else ""
        raise InputError(f"no file of {', '.join(sources)} can be used{reason}")
    limit = 0
    if sample:
        pieces, limit = _spread_sample(pieces, sample)
    rows = sum(min(piece.rows, sample or piece.rows) for piece in pieces)
    room = (memory_gb / workers - WORKER_GB) * 1e9
    return Plan(
        files=tuple(files),
        pieces=tuple(pieces),
        bad_files=tuple(bad),
        passed_over=tuple(passed_over),
        skip_bad_files=skip,
        rules=rules,
        unsafe_words=unsafe_words(rules),
        held_out=tuple(held_out),
        buckets=1 << max(0, math.ceil(math.log2(max(1.0, rows * BYTES_PER_TEXT / room)))),
        rows_collected=min(ROWS_PER_PIECE, int(room / BYTES_PER_ROW)),
        rows_per_shard=execution.rows_per_shard,
        sample_rows=limit,
    )


def unsafe_words(rules: CurationRules) -> tuple[str, ...]:
    """The words of the rules' list; none where that rule is off."""
    if not rules.unsafe.words:
        return ()
    try:
        return read_unsafe_words(resolve(rules.unsafe.words_file or UNSAFE_WORDS))
    except InputError as error:
        raise InputError(f"unsafe.words_file: {error}") from error


def _require_named(rules: CurationRules, found: set[str]) -> None:
    """Check that some file has each column that the user names: a filter on a mistyped one would pass everything."""
    for meaning in wanted(rules):
        names = getattr(rules.columns, meaning)
        if names and names != getattr(Columns(), meaning) and meaning not in found:
            raise InputError(
                f"columns.{meaning} names {' and '.join(map(repr, names))}, and no file has such a column; give a name "
                "that one has, or [] to go without"
            )


def _spread_sample(pieces: list[Piece], sample: int) -> tuple[list[Piece], int]:
    """Some pieces, evenly spread, and the rows of each that together make the sample; 0 for all rows of all."""
    full = [piece for piece in pieces if piece.rows]
    count = min(len(full), max(1, sample // LEAST_SAMPLED))
    while True:
        chosen = [full[index * len(full) // count] for index in range(count)]
        if sum(piece.rows for piece in chosen) >= sample:
            break
        if count == len(full):
            return pieces, 0
        count = min(len(full), 2 * count)
    # Small pieces give all their rows, and larger ones compensate.
    left, rows = sample, sorted(piece.rows for piece in chosen)
    for index, has in enumerate(rows):
        share = math.ceil(left / (len(rows) - index))
        if has >= share:
            return chosen, share
        left -= has
    return chosen, 0
