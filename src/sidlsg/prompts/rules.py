"""The rules of curation: which rows of a prompt table may become prompts."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from sidlsg.errors import InputError
from sidlsg.storage import sha256_bytes


@dataclass(frozen=True, kw_only=True)
class CurationRules:
    """What a row must have to be kept. The defaults fit LAION-Aesthetics tables.

    Raises:
        InputError: a value is out of range, or two values contradict each other.
    """

    text_column: str = "TEXT"
    """The column of captions; strings."""
    score_column: str = "AESTHETIC_SCORE"
    """The column of scores; numbers."""
    minimum_score: float = 6.0
    """The lowest score that is kept; rows without a score are dropped."""
    minimum_words: int = 3
    """The fewest words after cleaning: shorter texts are mostly file names and labels."""
    maximum_words: int = 60
    """The most words after cleaning: CLIP reads 75 tokens, and what comes after them is lost."""

    def __post_init__(self) -> None:
        for field in ("text_column", "score_column"):
            if not getattr(self, field):
                raise InputError(f"{field} is empty; give the name of a column of the prompt file")
        if self.text_column == self.score_column:
            # One column cannot hold both, and the type error that follows would name the wrong cause.
            raise InputError(f"text_column and score_column are both {self.text_column!r}; they must differ")
        if not math.isfinite(self.minimum_score):
            raise InputError(f"minimum_score is {self.minimum_score}; give a finite number, such as 6.0")
        if self.minimum_words < 1:
            raise InputError(f"minimum_words is {self.minimum_words}; give 1 or more")
        if self.maximum_words < self.minimum_words:
            raise InputError(
                f"maximum_words is {self.maximum_words}, less than minimum_words {self.minimum_words}: "
                "no text could pass; raise the one or lower the other"
            )

    @property
    def digest(self) -> str:
        """SHA-256 of the values: equal rules have equal digests."""
        # 6 and 6.0 are one rule but differ as JSON.
        values = asdict(self) | {"minimum_score": float(self.minimum_score)}
        return sha256_bytes(json.dumps(values, sort_keys=True).encode())
