"""The summary of a curation: the funnel as a picture, histograms, and samples by which a person can judge the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sidlsg.report.page import render
from sidlsg.storage import atomic_write

HTML, MARKDOWN = "summary.html", "summary.md"
TEMPLATE = "curation.html"
WIDTH, BAR, GAP, LABEL, NUMBER = 880, 22, 8, 150, 190
"""The funnel's measures in its picture: the whole, a bar's height, the room between bars, for names and for counts."""
BINS = 24
"""Bars of a histogram, at most: more values share a bar."""
SHOWN_WORDS = 40
MARKDOWN_SAMPLES = 5
"""Dropped texts a rule that the Markdown shows; the page shows all that were kept for it."""


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
        statistics: as a curation's `stats.json` holds them.
        folder: where they go.
    """
    funnel = statistics["funnel"]
    first, last = funnel[0]["rows_in"], funnel[-1]["rows_out"]
    sources = statistics["prompts_by_source"]
    values = {
        "rows": first,
        "prompts": last,
        "funnel": [{**step, "dropped": step["rows_in"] - step["rows_out"]} for step in funnel],
        "picture": funnel_picture(funnel),
        "tokens": histogram(statistics["prompts_by_tokens"]),
        "scores": histogram(statistics["prompts_by_tenths_of_score"], scale=0.1),
        "truncated": statistics["truncated"],
        "cuts": statistics["cuts"],
        "sources": sources if len(sources) > 1 else {},
        "kept": statistics["kept"],
        "dropped": statistics["dropped"],
        "words": list(statistics["top_words"].items())[:SHOWN_WORDS],
        "groups": statistics["largest_groups"],
        "bad_files": statistics["bad_files"],
    }
    atomic_write(folder / HTML, render(TEMPLATE, **values))
    atomic_write(folder / MARKDOWN, _markdown(values))


def funnel_picture(funnel: Sequence[Mapping[str, Any]]) -> str:
    """The funnel as SVG text: a bar a step, as long as its rows; what it dropped is lighter."""
    most = max(1, funnel[0]["rows_in"])
    scale = (WIDTH - LABEL - NUMBER) / most
    height = len(funnel) * (BAR + GAP)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Rows that each step let through">'
    ]
    for index, step in enumerate(funnel):
        y = index * (BAR + GAP)
        into, out = step["rows_in"] * scale, step["rows_out"] * scale
        middle = y + BAR * 0.72
        parts += [
            f'<text x="{LABEL - 10}" y="{middle:.1f}" text-anchor="end">{escape(step["name"])}</text>',
            f'<rect class="gone" x="{LABEL}" y="{y}" width="{into:.1f}" height="{BAR}"/>',
            f'<rect class="stays" x="{LABEL}" y="{y}" width="{max(out, 0.5):.1f}" height="{BAR}"/>',
            f'<text x="{LABEL + into + 8:.1f}" y="{middle:.1f}">{step["rows_out"]:,}{_minus(step)}</text>',
        ]
    return "\n".join([*parts, "</svg>"])


def histogram(counts: Mapping[str, int], scale: float = 1.0) -> list[Bar]:
    """Bars of equal widths over integers that are given as text, each named by its values times `scale`."""
    if not counts:
        return []
    by_value = {int(value): count for value, count in counts.items()}
    low, high = min(by_value), max(by_value)
    width = -(-(high - low + 1) // BINS)
    sums = [0] * ((high - low) // width + 1)
    for value, count in by_value.items():
        sums[(value - low) // width] += count
    most = max(sums)
    return [
        Bar(label=_label(low + index * width, width, scale), count=count, share=count / most)
        for index, count in enumerate(sums)
    ]


def _label(low: int, width: int, scale: float) -> str:
    if scale != 1.0:
        return f"{low * scale:.1f} to {(low + width) * scale:.1f}"
    return str(low) if width == 1 else f"{low} to {low + width - 1}"


def _minus(step: Mapping[str, Any]) -> str:
    dropped = step["rows_in"] - step["rows_out"]
    return f" (−{dropped:,})" if dropped else ""


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
    if values["bad_files"]:
        lines += ["", "## Files that were left out", ""]
        lines += [f"- {_code(file['name'])}: {_line(file['reason'])}" for file in values["bad_files"]]
    for title, bars in (("Length in tokens", values["tokens"]), ("Score", values["scores"])):
        if bars:
            lines += ["", f"## {title}", "", "| | prompts |", "|---|---:|"]
            lines += [f"| {bar.label} | {bar.count:,} |" for bar in bars]
    lines += ["", "## Kept, for example", "", *(f"- {_code(text)}" for text in values["kept"][:MARKDOWN_SAMPLES])]
    lines += ["", "## Dropped, for example"]
    for name, samples in values["dropped"].items():
        lines += ["", f"### {name}", ""]
        lines += [f"- {_code(text)}{f' ({_line(why)})' if why else ''}" for text, why in samples[:MARKDOWN_SAMPLES]]
    lines += ["", f"The page `{HTML}` shows more of each."]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    """A text as it is, on one line: a prompt may hold any Markdown or HTML."""
    plain = " ".join(text.split())
    runs = [len(run) for run in "".join(c if c == "`" else " " for c in plain).split()]
    fence = "`" * (max(runs, default=0) + 1)
    return f"{fence} {plain} {fence}"
