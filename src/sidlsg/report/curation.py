"""The summary of a curation: the funnel, histograms, and samples by which a person can judge the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from sidlsg.report.page import render
from sidlsg.runtime.formatting import counted
from sidlsg.storage.files import atomic_write

HTML, MARKDOWN = "summary.html", "summary.md"
BINS = 24
"""Most bars of a histogram."""
TAIL = 0.001
"""Largest share of prompts in the open bar at either end, so that a few far values do not flatten the histogram."""
SHOWN_WORDS = 40
MARKDOWN_GROUPS = 10
MARKDOWN_SAMPLES = 5
"""Texts of each step in the Markdown; the page shows all."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a histogram."""

    label: str
    count: int
    share: float
    """Of the largest bar."""


def write_summary(statistics: Mapping[str, Any], folder: Path) -> None:
    """Write `summary.html`, one page that loads nothing, and `summary.md`; equal statistics give equal bytes.

    Args:
        statistics: the content of a curation's `stats.json`.
        folder: the output folder.
    """
    funnel = statistics["funnel"]
    first, last = funnel[0]["rows_in"], funnel[-1]["rows_out"]
    sources = statistics["prompts_by_source"]
    values = {
        "rows": first,
        "prompts": last,
        "funnel": [
            {**step, "dropped": step["rows_in"] - step["rows_out"], "share": 100 * step["rows_out"] / max(1, first)}
            for step in funnel
        ],
        "tokens": histogram(statistics["prompts_by_tokens"]),
        "scores": histogram(statistics["prompts_by_tenths_of_score"], scale=0.1),
        "truncation": f"{counted(statistics['truncated'], 'prompt has', 'prompts have')} more than the 75 tokens that "
        "CLIP reads; the rest is cut off.",
        "cuts": statistics["cuts"],
        "sources": sources if len(sources) > 1 else {},
        "kept": statistics["kept"],
        "dropped": statistics["dropped"],
        "dropped_rows": {step["name"]: step["rows_in"] - step["rows_out"] for step in funnel},
        "words": list(statistics["top_words"].items())[:SHOWN_WORDS],
        "groups": statistics["largest_groups"],
        "notes": statistics["notes"],
    }
    atomic_write(folder / HTML, render("curation.html", **values))
    atomic_write(folder / MARKDOWN, _markdown(values))


def histogram(counts: Mapping[str, int], scale: float = 1.0) -> list[Bar]:
    """A histogram of integers, given as text; labels are the integers times `scale`.

    Bars have equal widths, except for an open bar at either end if a few values lie far out.
    """
    if not counts:
        return []
    by_value = dict(sorted((int(value), count) for value, count in counts.items()))
    low, high = _range_shown(by_value)
    width = -(-(high - low + 1) // BINS)
    bars = (high - low) // width + 1
    # The first and the last are the open bars.
    sums = [0] * (bars + 2)
    for value, count in by_value.items():
        sums[min(max((value - low) // width + 1, 0), bars + 1)] += count
    labels = [
        f"under {_number(low, scale)}",
        *(_label(low + index * width, width, scale) for index in range(bars)),
        f"{_number(low + bars * width, scale)} or more",
    ]
    shown = range(0 if sums[0] else 1, bars + (2 if sums[-1] else 1))
    return [Bar(label=labels[index], count=sums[index], share=sums[index] / max(sums)) for index in shown]


def _range_shown(rising: Mapping[int, int]) -> tuple[int, int]:
    """The lowest and the highest value with bars of equal widths: the whole range, unless half of it has nearly all."""
    values, counts = list(rising), list(rising.values())
    few = sum(counts) * TAIL
    low = values[sum(before <= few for before in accumulate(counts))]
    high = values[-1 - sum(before <= few for before in accumulate(reversed(counts)))]
    return (low, high) if high - low < (values[-1] - values[0]) / 2 else (values[0], values[-1])


def _number(value: int, scale: float) -> str:
    return str(value) if scale == 1.0 else f"{value * scale:.1f}"


def _label(low: int, width: int, scale: float) -> str:
    if scale != 1.0:
        return f"{_number(low, scale)} to {_number(low + width, scale)}"
    return str(low) if width == 1 else f"{low} to {low + width - 1}"


def _markdown(values: Mapping[str, Any]) -> str:
    lines = [
        "# Curated prompts",
        "",
        f"{values['prompts']:,} prompts out of {values['rows']:,} rows.",
        "",
        "| step | keeps | in | out | dropped |",
        "|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {step['name']} | {step['demand']} | {step['rows_in']:,} | {step['rows_out']:,} | {step['dropped']:,} |"
        for step in values["funnel"]
    ]
    if values["cuts"]:
        lines += ["", "| cut | prompts |", "|---|---:|", f"| whole | {values['prompts']:,} |"]
        lines += [f"| score ≥ {cut} | {count:,} |" for cut, count in values["cuts"].items()]
    if values["notes"]:
        lines += ["", "## What was not read", "", *(f"- {_code(note)}" for note in values["notes"])]
    for title, bars in (("Length in tokens", values["tokens"]), ("Score", values["scores"])):
        if bars:
            lines += ["", f"## {title}", "", "| | prompts |", "|---|---:|"]
            lines += [f"| {bar.label} | {bar.count:,} |" for bar in bars]
    lines += ["", values["truncation"]]
    if values["groups"]:
        lines += ["", "## Largest groups of near duplicates", "", "| texts | kept text |", "|---:|---|"]
        lines += [f"| {size:,} | {_cell(text)} |" for size, text in values["groups"][:MARKDOWN_GROUPS]]
    lines += ["", "## Most frequent words", "", ", ".join(f"{_code(word)} {n:,}" for word, n in values["words"])]
    lines += [
        "",
        "## Examples of kept prompts",
        "",
        *(f"- {_code(text)}" for text in values["kept"][:MARKDOWN_SAMPLES]),
    ]
    lines += ["", "## Examples of dropped texts"]
    for name, samples in values["dropped"].items():
        lines += ["", f"### {name}", ""]
        lines += [f"- {_code(text)}{f' ({_line(why)})' if why else ''}" for text, why in samples[:MARKDOWN_SAMPLES]]
    lines += ["", f"The page `{HTML}` shows more of each."]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _cell(text: str) -> str:
    """A literal text in a table."""
    return _code(text).replace("|", "\\|")


def _code(text: str) -> str:
    """A literal text on one line: a prompt may contain any Markdown or HTML."""
    plain = " ".join(text.split())
    runs = [len(run) for run in "".join(c if c == "`" else " " for c in plain).split()]
    fence = "`" * (max(runs, default=0) + 1)
    return f"{fence} {plain} {fence}"
