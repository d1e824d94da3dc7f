"""The tables and commands of `docs/cluster.md` and `docs/cluster-operations.md`, for tests to read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from infra.cluster import ROOT

TEXT = "\n".join((ROOT / "docs" / name).read_text() for name in ("cluster.md", "cluster-operations.md"))
"""Both pages, in the order in which their commands run."""
NOT_RUN = "*Not run by our tests:"
"""Begins the line before a block of commands that needs a cluster, and says why."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Yours:
    """A row of the table of what the user brings."""

    kind: str
    name: str
    keys: frozenset[str]


@dataclass(frozen=True)
class Block:
    """Commands of a page, and why they are not run; empty where they are."""

    text: str
    why_not: str


@cache
def yours() -> dict[tuple[str, str], Yours]:
    """Kind and name → row."""
    rows = [
        Yours(kind, name, frozenset(re.findall(r"`([A-Z0-9_]+)`", keys)))
        for kind, name, keys in _rows("What you provide")
        if kind not in ("Pod", "Namespace")
    ]
    return {(row.kind, row.name): row for row in rows}


@cache
def labels_of_others() -> dict[str, list[dict[str, str]]]:
    """The labels of pods and of namespaces that are not ours, and of pipeline steps."""
    found: dict[str, list[dict[str, str]]] = {"pod": [], "namespace": []}
    for kind, label, _ in _rows("What you provide"):
        if kind in ("Pod", "Namespace"):
            key, _, value = label.partition(": ")
            found[kind.lower()].append({key: value})
    stages = re.search(r"^Steps have the label `sidlsg.dev/stage`.*?\n\n", TEXT, re.MULTILINE | re.DOTALL)
    assert stages is not None
    names = re.findall(r"`([a-z-]+)`", stages[0])
    found["pod"] += [{"sidlsg.dev/stage": name, "app.kubernetes.io/part-of": "sidlsg"} for name in names]
    return found


@cache
def blocks() -> list[Block]:
    """All blocks of commands, in the pages' order."""
    found = []
    for match in _BLOCK.finditer(TEXT):
        if match[1] != "bash":
            continue
        before = TEXT[: match.start()].rstrip().rpartition("\n\n")[2]
        found.append(Block(match[2], before.replace("\n", " ").strip("*") if before.startswith(NOT_RUN) else ""))
    return found


def _rows(heading: str) -> list[tuple[str, str, str]]:
    part = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \| (.*) \|$", part, re.MULTILINE)
    assert rows, f"the pages on clusters have no table under {heading!r}"
    return rows
