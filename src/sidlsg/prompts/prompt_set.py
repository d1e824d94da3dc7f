"""The results of a curation: the prompt set's record, its manifest and statistics, and their output."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from sidlsg.prompts.held_out import held_out_digest
from sidlsg.prompts.output import check_output
from sidlsg.prompts.phases.near_duplicates import write_drops
from sidlsg.prompts.phases.row_steps import SAMPLES, StepCount, merged, step_demands
from sidlsg.prompts.phases.scan import EXAMPLES
from sidlsg.prompts.phases.selection import cut_folder, shards_of
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.shards import shard_name
from sidlsg.prompts.source.files import sources_digest
from sidlsg.prompts.source.problems import Misread, shown, warnings
from sidlsg.prompts.work import NothingLeftError, Work
from sidlsg.runtime.errors import ContentError
from sidlsg.runtime.provenance import code_digest, printable
from sidlsg.storage.files import atomic_folder, atomic_write, sha256_bytes, sha256_file
from sidlsg.storage.records import FileRef, FunnelStep, PromptSet
from sidlsg.storage.store import S3, FolderStore
from sidlsg.storage.uri import open_store

MANIFEST = "manifest.json"
"""Inputs, rules, counts and outputs, each with its digest."""
STATISTICS = "stats.json"
"""The content of the summary."""
NEAR_DUPLICATES = "near_duplicates.parquet"
"""The text kept instead of each near duplicate, by the digests of both."""
TOP_WORDS = 100
CONTEXT = 75
"""Tokens of a prompt that CLIP reads."""
SummaryWriter = Callable[[Mapping[str, Any], Path], None]
"""Writes the pages that show a curation's statistics into the folder of its prompt set."""


class Totals:
    """The results of a curation's tasks, added up."""

    def __init__(self, work: Work, plan: Plan) -> None:
        self._work, self.plan = work, plan
        # Results are read once: they may be on S3.
        self._done = cache(work.done)
        scanned = sorted(self._done("scan").items())
        bad = {plan.pieces[number].file: result["bad"] for number, result in scanned if "bad" in result}
        self.bad_files = [asdict(file) for file in plan.bad_files]
        """Files that were left out, with the reason."""
        self.bad_files += [{"name": plan.files[n].name, "reason": reason} for n, reason in sorted(bad.items())]
        self._scanned = [(plan.pieces[n].file, result) for n, result in scanned if plan.pieces[n].file not in bad]
        self._groups: dict[str, Any] = self._done("groups").get(0, {})

    @cached_property
    def funnel(self) -> dict[str, StepCount]:
        """All steps so far, in order."""
        parts = [result["funnel"] for _, result in self._scanned]
        for phase in ("unique", "settle", "trim"):
            parts += [result["funnel"] for _, result in sorted(self._done(phase).items())]
        steps = merged(parts)
        if "near_duplicates" in steps:
            samples = [[gone, f"like: {first}"] for gone, first in self._groups.get("samples", [])]
            steps["near_duplicates"].samples = dict(enumerate(samples[:SAMPLES]))
        return steps

    @property
    def source_digest(self) -> str:
        """SHA-256 over the sorted digests of all files; a single file's own digest."""
        return sources_digest([result["digest"] for _, result in self._scanned if result["digest"]])

    def record(self, cut: float | None) -> PromptSet:
        """The record of a set; paths are relative to its own folder."""
        folder = cut_folder(cut)
        written = self._written(cut)
        return PromptSet(
            source_sha256=self.source_digest,
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
                for name, step in self.funnel.items()
            ),
        )

    @cached_property
    def files(self) -> dict[str, list[Any]]:
        """The output's parquet files: SHA-256 and bytes by name."""
        return dict(sorted(item for result in self._done("write").values() for item in result["files"].items()))

    @cached_property
    def _rows(self) -> Counter[int]:
        """Rows read of each file."""
        rows: Counter[int] = Counter()
        for file, result in self._scanned:
            rows[file] += result["rows"]
        return rows

    @cached_property
    def misread(self) -> list[Misread]:
        """Rows with problems, by problem and file."""
        counts: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for file, result in self._scanned:
            for problem, count in result["misread"].items():
                counts.setdefault((problem, file), []).append(count)
        return [
            Misread(
                file=self.plan.files[file].name,
                problem=problem,
                rows=sum(part["rows"] for part in parts),
                of_rows=self._rows[file],
                examples=tuple(
                    (row, text and text.encode("latin-1")) for part in parts for row, text in part["examples"]
                )[:EXAMPLES],
            )
            for (problem, file), parts in sorted(counts.items())
        ]

    @property
    def warnings(self) -> list[str]:
        """A line for each problem of many rows."""
        return warnings(self.misread, self.plan.rules.text.encoding)

    def notes(self) -> list[str]:
        """Lines about what was not read; warnings last."""
        left_out = [printable(f"left out {bad['name']}: {bad['reason']}") for bad in self.bad_files]
        return [*(printable(str(some)) for some in self.plan.passed_over), *left_out, *self.warnings]

    def manifest(self) -> dict[str, Any]:
        """Inputs, rules, counts and outputs."""
        record = self.record(None)
        digests = {file: result["digest"] for file, result in self._scanned if result["digest"]}
        inputs = [
            {**asdict(file), "rows": self._rows[index], "sha256": digests.get(index, "")}
            for index, file in enumerate(self.plan.files)
            if index in self._rows
        ]
        for entry in inputs:
            del entry["version"]
        return {
            "source_sha256": record.source_sha256,
            "inputs": inputs,
            "bad_files": self.bad_files,
            "passed_over": [asdict(some) for some in self.plan.passed_over],
            "misread": [
                asdict(each) | {"examples": [[row, shown(text or b"")] for row, text in each.examples]}
                for each in self.misread
            ],
            "rules": asdict(self.plan.rules),
            "rules_sha256": record.rules_sha256,
            "unsafe_words": len(self.plan.unsafe_words),
            "held_out": len(self.plan.held_out),
            "held_out_sha256": record.held_out_sha256,
            "package_sha256": code_digest(),
            "funnel": [asdict(step) for step in record.funnel],
            "outputs": [{"path": name, "sha256": sha256, "bytes": size} for name, (sha256, size) in self.files.items()],
        }

    def statistics(self) -> dict[str, Any]:
        """The content of the summary."""
        whole = self._written(None)
        tokens = _added(result["tokens"] for result in whole)
        words = _added(result["top_words"] for result in whole)
        demands = step_demands(self.plan.rules)
        return {
            "funnel": [
                {"name": n, "demand": demands[n], "rows_in": s.rows_in, "rows_out": s.rows_out}
                for n, s in self.funnel.items()
            ],
            "kept": [text for result in whole for text in result["sample"]],
            "dropped": {name: list(step.samples.values()) for name, step in self.funnel.items() if step.samples},
            "prompts_by_tokens": tokens,
            "prompts_by_words": _added(result["words"] for result in whole),
            "prompts_by_tenths_of_score": _added(result["tenths_of_score"] for result in whole),
            "prompts_by_source": _added(result["sources"] for result in whole),
            "truncated": sum(count for length, count in tokens.items() if int(length) > CONTEXT),
            "top_words": dict(sorted(words.items(), key=lambda word: (-word[1], word[0]))[:TOP_WORDS]),
            "largest_groups": self._groups.get("largest", []),
            "cuts": {f"{cut:g}": sum(part["rows"] for part in self._written(cut)) for cut in self.plan.cuts if cut},
            "candidate_pairs": sum(result["candidates"] for result in self._done("verify").values()),
            "notes": self.notes(),
        }

    def _written(self, cut: float | None) -> list[dict[str, Any]]:
        results = self._done("write")
        return [results[number] for number, shard in enumerate(shards_of(self._work, self.plan)) if shard.cut == cut]


def _added(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items(), key=lambda item: (int(item[0]) if item[0].lstrip("-").isdigit() else 0, item[0])))


def rules_digest(rules: CurationRules, unsafe_words: Sequence[str]) -> str:
    """SHA-256 of the rules and their list of unsafe words."""
    words = sha256_bytes("\n".join(unsafe_words).encode())
    return hashlib.sha256(f"{rules.digest}\n{words}".encode()).hexdigest()


def require_prompts(totals: Totals) -> None:
    """Check that rows are left after every step so far."""
    plan, bad = totals.plan, totals.bad_files
    names = ", ".join(sorted({file.label for file in plan.files}))
    if len(bad) == len(plan.files) + len(plan.bad_files):
        raise NothingLeftError(f"no file of {names} can be used; the first: {bad[0]['reason']}")
    demands = step_demands(plan.rules)
    for name, step in totals.funnel.items():
        if name == "read" and step.rows_out == 0:
            raise NothingLeftError(f"the sources {names} have no rows; give files with prompts")
        if step.rows_out == 0:
            raise NothingLeftError(
                f"no prompt of {names} is left after the rule {name!r}: none of the {step.rows_in:,} that came to it "
                f"has {demands[name]}; {'; '.join(totals.warnings) or 'loosen the rule or give other files'}"
            )


def finish(
    work: Work, plan: Plan, output: str, source_sha256: str = "", summary: SummaryWriter | None = None
) -> PromptSet:
    """Write the output of a curation whose tasks are all done; it appears whole or not at all.

    Raises:
        ContentError: the sources' digest is not `source_sha256`, unless that is empty.
        InputError: no prompt is left, or the output is not empty and not an earlier prompt set.
    """
    totals = Totals(work, plan)
    require_prompts(totals)
    found = totals.source_digest
    if source_sha256 and found != source_sha256:
        raise ContentError(
            f"the sources have SHA-256 {found}, but {source_sha256} was given: they were changed, or they are others; "
            "give the digest of this content, or none"
        )
    if output.startswith(S3):
        _to_s3(work, totals, output, summary)
    else:
        with atomic_folder(Path(output), marker=PromptSet.FILE) as folder:
            for name in totals.files:
                _link(work, f"output/{name}", folder / name)
            _describe(work, totals, folder, summary)
            for cut in plan.cuts:
                (folder / cut_folder(cut)).mkdir(parents=True, exist_ok=True)
                totals.record(cut).save(folder / cut_folder(cut))
    return totals.record(None)


def _link(work: Work, name: str, target: Path) -> None:
    """Give a file of the work folder a second name in the output, which takes no space and keeps the work whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(work.store, FolderStore):
        with contextlib.suppress(OSError):  # another disk, or a file system without links
            os.link(work.store.folder / name, target)
            return
    work.store.get(name, target)


def _describe(work: Work, totals: Totals, folder: Path, summary: SummaryWriter | None) -> None:
    statistics = totals.statistics()
    for name, values in ((MANIFEST, totals.manifest()), (STATISTICS, statistics)):
        atomic_write(folder / name, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    if summary is not None:
        summary(statistics, folder)
    if totals.plan.rules.duplicates.similarity:
        write_drops(work, totals.plan, folder / NEAR_DUPLICATES)


def _to_s3(work: Work, totals: Totals, output: str, summary: SummaryWriter | None) -> None:
    check_output(output)
    store = open_store(output)
    there = store.names()
    # Readers start with the record: without it, a set that is being replaced is not a prompt set.
    store.delete([name for name in there if name.endswith(PromptSet.FILE)])
    kept = set(totals.files)
    with tempfile.TemporaryDirectory() as temporary:
        shard = Path(temporary) / "shard"
        for name, (sha256, _) in totals.files.items():
            work.store.get(f"output/{name}", shard)
            store.put(name, shard, sha256)
            shard.unlink()
        _describe(work, totals, Path(temporary), summary)
        for path in [path for path in Path(temporary).rglob("*") if path.is_file()]:
            name = path.relative_to(temporary).as_posix()
            store.put(name, path, sha256_file(path))
            kept.add(name)
    store.delete([name for name in there if name not in kept and not name.endswith(PromptSet.FILE)])
    for cut in reversed(totals.plan.cuts):
        store.write(f"{cut_folder(cut)}{PromptSet.FILE}", totals.record(cut).to_json().encode())
