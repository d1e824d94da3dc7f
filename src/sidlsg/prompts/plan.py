"""The plan of a curation: what every task must know, stored in the work folder before the first one runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache

from pydantic import TypeAdapter

from sidlsg.prompts import NUMERICS
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source.files import InputFile, PassedOver
from sidlsg.prompts.source.pieces import BadFile, Piece
from sidlsg.prompts.work import Work

PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A curation, cut into pieces and buckets. The cuts bound memory and do not change the result."""

    files: tuple[InputFile, ...]
    pieces: tuple[Piece, ...]
    bad_files: tuple[BadFile, ...]
    """Files that could not even be opened, and were skipped."""
    passed_over: tuple[PassedOver, ...]
    """Files of the sources' folders that are not read."""
    skip_bad_files: bool
    """Whether a file that turns out damaged is left out, and not an error."""
    rules: CurationRules
    unsafe_words: tuple[str, ...]
    held_out: tuple[str, ...]
    """Evaluation captions."""
    buckets: int
    """Into so many parts the texts are spread by the first bits of their key; a power of two."""
    rows_per_shard: int
    rows_collected: int = 1 << 20
    """Rows of a piece that wait in memory before they are written."""
    sample_rows: int = 0
    """The most rows that are read of a piece; 0 for all."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The sources' names, sorted."""
        return tuple(sorted({file.label for file in self.files}))

    @property
    def cuts(self) -> tuple[float | None, ...]:
        """The minimal scores of the sets to be written: None for the whole one, then the rules' cuts."""
        return (None, *(self.rules.score.cuts if self.rules.score.enabled else ()))

    def key(self, stamps: list[str]) -> str:
        """Digest of everything that the result depends on: only an equal curation continues an earlier one.

        Args:
            stamps: one a file, which changes when the file does.
        """
        # What was done before a damaged file was met is good, whether such files are skipped or not.
        # Work that is cut finer than it need be now is as good.
        plan = replace(self, passed_over=(), skip_bad_files=False, buckets=1, rows_collected=1)
        return hashlib.sha256(json.dumps([plan.to_json(), stamps, NUMERICS]).encode()).hexdigest()

    def to_json(self) -> str:
        """As text."""
        return TypeAdapter(Plan).dump_json(self).decode()

    @staticmethod
    def load(work: Work) -> Plan:
        """The plan of a work folder.

        Raises:
            ContentError: there is none.
        """
        return _parsed(work.read(PLAN_FILE))


@lru_cache(maxsize=2)
def _parsed(data: bytes) -> Plan:
    return TypeAdapter(Plan).validate_json(data)


def bucket_names(folder: str, buckets: int) -> list[str]:
    """What each bucket's task left: `FOLDER/0000`, …"""
    return [f"{folder}/{bucket:04}" for bucket in range(buckets)]
