"""What a curation made, as a person and a program read it: the manifest, and the statistics of the summary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from sidlsg.prompts.held_out import held_out_digest
from sidlsg.prompts.notes import Misread, warnings
from sidlsg.prompts.phases.funnel import SAMPLES, StepCount, merged
from sidlsg.prompts.phases.row_steps import step_demands
from sidlsg.prompts.phases.scan import EXAMPLES
from sidlsg.prompts.phases.selection import cut_folder, shards_of
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.shards import shard_name
from sidlsg.prompts.source.misread import shown
from sidlsg.prompts.source.sources_digest import sources_digest
from sidlsg.prompts.work import Work
from sidlsg.runtime.pipeline_run import printable
from sidlsg.runtime.provenance import code_digest
from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.records import FileRef, FunnelStep, PromptSet

MANIFEST = "manifest.json"
"""Inputs, rules, counts and outputs, each with its digest."""
STATISTICS = "stats.json"
"""Everything that the summary shows."""
TOP_WORDS = 100
CONTEXT = 75
"""The tokens that CLIP reads of a prompt."""


class Made:
    """Everything that the tasks of a curation found, added up."""

    def __init__(self, work: Work, plan: Plan) -> None:
        self._work, self.plan = work, plan
        # What tasks found is read once: it is asked for many times, and may lie on S3.
        self._done = cache(work.done)
        scanned = self._done("scan")
        self.bad = {plan.pieces[number].file: result["bad"] for number, result in scanned.items() if "bad" in result}
        self._scanned = {n: r for n, r in sorted(scanned.items()) if plan.pieces[n].file not in self.bad}
        self._groups: dict[str, Any] = self._done("groups").get(0, {})

    def funnel(self) -> dict[str, StepCount]:
        """All steps so far, in their order."""
        parts = [result["funnel"] for result in self._scanned.values()]
        for phase in ("unique", "settle", "trim"):
            parts += [result["funnel"] for _, result in sorted(self._done(phase).items())]
        steps = merged(parts)
        if "near_duplicates" in steps:
            samples = [[gone, f"like: {first}"] for gone, first in self._groups.get("samples", [])]
            steps["near_duplicates"].samples = dict(enumerate(samples[:SAMPLES]))
        return steps

    def source_digest(self) -> str:
        """SHA-256 over the digests of all files, sorted; of a single file its own."""
        return sources_digest([digest for result in self._scanned.values() if (digest := result["digest"])])

    def record(self, cut: float | None) -> PromptSet:
        """The record of a set; paths are relative to its own folder."""
        folder = cut_folder(cut)
        written = self._written(cut)
        return PromptSet(
            source_sha256=self.source_digest(),
            rules_sha256=rules_digest(self.plan.rules, self.plan.unsafe_words),
            held_out_sha256=held_out_digest(self.plan.held_out),
            minimum_score=cut,
            count=sum(result["rows"] for result in written),
            shards=tuple(
                FileRef(path=f"shards/{shard_name(n)}", sha256=result["files"][f"{folder}shards/{shard_name(n)}"][0])
                for n, result in enumerate(written)
            ),
            funnel=tuple(
                FunnelStep(name=name, rows_in=step.rows_in, rows_out=step.rows_out)
                for name, step in self.funnel().items()
            ),
        )

    def files(self) -> dict[str, list[Any]]:
        """The output's parquet files: SHA-256 and bytes by name."""
        found: dict[str, list[Any]] = {}
        for result in self._done("write").values():
            found |= result["files"]
        return dict(sorted(found.items()))

    def bad_files(self) -> list[dict[str, str]]:
        """The files that were left out, and why."""
        found = [asdict(file) for file in self.plan.bad_files]
        return found + [{"name": self.plan.files[n].name, "reason": why} for n, why in sorted(self.bad.items())]

    def misread(self) -> list[Misread]:
        """What could not be read, by problem and file."""
        rows: dict[int, int] = {}
        counts: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for number, result in self._scanned.items():
            file = self.plan.pieces[number].file
            rows[file] = rows.get(file, 0) + result["rows"]
            for problem, count in result["misread"].items():
                counts.setdefault((problem, file), []).append(count)
        return [
            Misread(
                file=self.plan.files[file].name,
                problem=problem,
                rows=sum(part["rows"] for part in parts),
                of_rows=rows[file],
                examples=tuple(
                    (row, text and text.encode("latin-1")) for part in parts for row, text in part["examples"]
                )[:EXAMPLES],
            )
            for (problem, file), parts in sorted(counts.items())
        ]

    def notes(self) -> list[str]:
        """What was not read, in lines for a person; warnings last."""
        left_out = [printable(f"left out {bad['name']}: {bad['reason']}") for bad in self.bad_files()]
        passed_over = [printable(str(some)) for some in self.plan.passed_over]
        return [*passed_over, *left_out, *warnings(self.misread(), self.plan.rules.text.encoding)]

    def manifest(self) -> dict[str, Any]:
        """Inputs, rules, counts and outputs."""
        rows: dict[int, int] = {}
        digests: dict[int, str] = {}
        for number, result in self._scanned.items():
            file = self.plan.pieces[number].file
            rows[file] = rows.get(file, 0) + result["rows"]
            digests[file] = digests.get(file) or result["digest"]
        inputs: list[dict[str, Any]] = [
            {**asdict(file), "rows": rows[index], "sha256": digests[index]}
            for index, file in enumerate(self.plan.files)
            if index in rows
        ]
        for entry in inputs:
            del entry["version"]
        return {
            "source_sha256": self.source_digest(),
            "inputs": inputs,
            "bad_files": self.bad_files(),
            "passed_over": [asdict(some) for some in self.plan.passed_over],
            "misread": [
                {"file": each.file, "problem": each.problem, "rows": each.rows, "of_rows": each.of_rows}
                | {"examples": [[row, shown(text or b"")] for row, text in each.examples]}
                for each in self.misread()
            ],
            "rules": asdict(self.plan.rules),
            "rules_sha256": rules_digest(self.plan.rules, self.plan.unsafe_words),
            "unsafe_words": len(self.plan.unsafe_words),
            "held_out": len(self.plan.held_out),
            "held_out_sha256": held_out_digest(self.plan.held_out),
            "package_sha256": code_digest(),
            "funnel": [{"name": n, "rows_in": s.rows_in, "rows_out": s.rows_out} for n, s in self.funnel().items()],
            "outputs": [
                {"path": name, "sha256": sha256, "bytes": size} for name, (sha256, size) in self.files().items()
            ],
        }

    def statistics(self) -> dict[str, Any]:
        """Everything that the summary shows."""
        whole = self._written(None)
        tokens = _added([result["tokens"] for result in whole])
        demands = step_demands(self.plan.rules)
        return {
            "funnel": [
                {"name": n, "demand": demands[n], "rows_in": s.rows_in, "rows_out": s.rows_out}
                for n, s in self.funnel().items()
            ],
            "kept": [text for result in whole for text in result["sample"]],
            "dropped": {name: list(step.samples.values()) for name, step in self.funnel().items() if step.samples},
            "prompts_by_tokens": tokens,
            "prompts_by_words": _added([result["words"] for result in whole]),
            "prompts_by_tenths_of_score": _added([result["tenths_of_score"] for result in whole]),
            "prompts_by_source": _added([result["sources"] for result in whole]),
            "truncated": sum(count for length, count in tokens.items() if int(length) > CONTEXT),
            "top_words": _most_frequent([result["top_words"] for result in whole]),
            "largest_groups": self._groups.get("largest", []),
            "cuts": {f"{cut:g}": sum(part["rows"] for part in self._written(cut)) for cut in self.plan.cuts if cut},
            "candidate_pairs": sum(result["candidates"] for result in self._done("verify").values()),
            "notes": self.notes(),
        }

    def _written(self, cut: float | None) -> list[dict[str, Any]]:
        results = self._done("write")
        return [results[number] for number, shard in enumerate(shards_of(self._work, self.plan)) if shard.cut == cut]


def rules_digest(rules: CurationRules, unsafe_words: Sequence[str]) -> str:
    """SHA-256 of the rules and of the words that they speak of."""
    words = sha256_bytes("\n".join(unsafe_words).encode())
    return hashlib.sha256(f"{rules.digest}\n{words}".encode()).hexdigest()


def to_json(values: dict[str, Any]) -> str:
    """As a file's text."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _most_frequent(parts: list[dict[str, int]]) -> dict[str, int]:
    return dict(sorted(_added(parts).items(), key=lambda word: (-word[1], word[0]))[:TOP_WORDS])


def _added(parts: list[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for key, count in part.items():
            total[key] = total.get(key, 0) + count
    return dict(sorted(total.items(), key=lambda item: (int(item[0]) if item[0].lstrip("-").isdigit() else 0, item[0])))
