"""The bundled prompt table: the domain's captions as in a web crawl, with noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sidlsg.bundled.domain import Domain
from sidlsg.runtime.randomness import counted
from sidlsg.storage.files import atomic_write

T = TypeVar("T")

TABLE_FILE = "prompts.parquet"
HELD_OUT_FILE = "held_out.txt"

SCHEMA = pa.schema(
    [
        ("URL", pa.string()),
        ("TEXT", pa.string()),
        ("WIDTH", pa.int32()),
        ("HEIGHT", pa.int32()),
        ("similarity", pa.float32()),
        ("punsafe", pa.float32()),
        ("pwatermark", pa.float32()),
        ("AESTHETIC_SCORE", pa.float32()),
    ]
)
"""The columns of LAION-Aesthetics."""

DISGUISES: tuple[Callable[[str], str], ...] = (
    str.upper,
    str.title,
    lambda text: "  " + text.replace(" ", "   ") + " ",
    lambda text: text.replace(" ", "&nbsp;", 1),
    lambda text: f"&quot;{text}&quot;",
    lambda text: f"“{text}”",
    lambda text: f"<b>{text}</b>",
    lambda text: f"{text} https://example.invalid/gallery",
)
"""Other spellings of a caption; cleaning undoes all but the case."""

HELD_OUT_DISGUISES: tuple[Callable[[str], str], ...] = (
    *DISGUISES,
    lambda text: f"{text}.",
    lambda text: text.replace(" on ", ", on ").upper() + "!",
)
"""For held-out captions, punctuation as well."""

DUPLICATES = 2
"""Disguised rows per training caption."""
MOST_CAPTIONS = 40_000
"""Training captions of a table, chosen at random from a domain that has more."""
LOW_ROWS = 1500
"""Rows with a low score, at least; a quarter of the captions in a larger table."""
EMPTY_TEXTS = (None, "", "   ", "\t\n", "&nbsp;", "<br/>")
URL_TEXTS = (
    "https://example.invalid/",
    "www.example.invalid/shop",
    "HTTP://EXAMPLE.INVALID/a https://example.invalid/b",
)
REPEATS = 16
"""Rows of each empty text and of each text of addresses only."""


@dataclass(frozen=True)
class _Row:
    text: str | None
    high: bool
    """Whether the score is at least 6."""
    position: float
    """In the table, from 0 to 1."""


def write_bundled_prompts(domain: Domain, folder: Path, seed: int = 0) -> None:
    """Write `prompts.parquet` and `held_out.txt`; default rules keep training captions that are not alike.

    Of the shapes these are all, each in one spelling; of the scenes, where many differ by a word, 24,062 of 40,000.
    """
    rows = sorted(_rows(domain, counted(seed, "prompts/rows")), key=lambda row: row.position)
    buffer = BytesIO()
    pq.write_table(_table(rows, counted(seed, "prompts/columns")), buffer, compression="zstd", row_group_size=1024)
    atomic_write(folder / TABLE_FILE, buffer.getvalue())
    atomic_write(folder / HELD_OUT_FILE, "".join(f"{caption.text}\n" for caption in domain.held_out_captions()))


def _rows(domain: Domain, draws: np.random.Generator) -> list[_Row]:
    rows, captions, training = [], domain.all_captions(), domain.training_captions()
    if len(training) > MOST_CAPTIONS:
        training = tuple(training[i] for i in sorted(draws.choice(len(training), MOST_CAPTIONS, replace=False)))
    for caption in training:
        position = draws.random()
        rows.append(_Row(caption.text, True, position))
        # Curation keeps the first of equal texts, so the plain caption comes before its disguises.
        rows += [
            _Row(_choose(draws, DISGUISES)(caption.text), True, position + (1 - position) * draws.random())
            for _ in range(DUPLICATES)
        ]
    for caption in domain.held_out_captions():
        rows.append(_Row(caption.text, True, draws.random()))
        rows.append(_Row(_choose(draws, HELD_OUT_DISGUISES)(caption.text), True, draws.random()))
    for _ in range(max(LOW_ROWS, len(training) // 4)):
        rows.append(_Row(_choose(draws, captions).text, False, draws.random()))
    for text in EMPTY_TEXTS + URL_TEXTS:
        rows += [_Row(text, True, draws.random()) for _ in range(REPEATS)]
    for _ in range(REPEATS):
        caption = _choose(draws, captions)
        rows.append(_Row(" ".join(caption.text.split()[2:4]), True, draws.random()))  # below three words
        rows.append(_Row(", ".join(c.text for c in captions[:12]), True, draws.random()))
    return rows


def _choose(draws: np.random.Generator, options: tuple[T, ...]) -> T:
    return options[int(draws.random() * len(options))]


def _table(rows: list[_Row], draws: np.random.Generator) -> pa.Table:
    size, similarity, unsafe, watermark, score = draws.random((5, len(rows)))
    width = (256 + 768 * size).astype(np.int32)
    lowest = np.array([6.0 if row.high else 4.5 for row in rows])
    columns = [
        [f"https://example.invalid/images/{number:06}.png" for number in range(len(rows))],
        [row.text for row in rows],
        width,
        width,
        0.28 + 0.12 * similarity,
        0.1 * unsafe,
        0.5 * watermark,
        # Scores have two decimals: the highest low one is 5.99, which float32 does not round up to 6.
        np.floor(100 * (lowest + 1.5 * score)) / 100,
    ]
    columns[4:7] = [np.round(values, 3) for values in columns[4:7]]
    return pa.table([pa.array(v, f.type) for v, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
