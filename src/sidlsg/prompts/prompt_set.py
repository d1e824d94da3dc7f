"""What a curation made, as a person and a program read it: the manifest, and the statistics of the summary."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from sidlsg.prompts.held_out import held_out_digest
from sidlsg.prompts.notes import Misread, warnings
from sidlsg.prompts.output import check_output
from sidlsg.prompts.phases.near import write_drops
from sidlsg.prompts.phases.row_steps import SAMPLES, StepCount, merged, step_demands
from sidlsg.prompts.phases.scan import EXAMPLES
from sidlsg.prompts.phases.selection import cut_folder, shards_of
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.shards import shard_name
from sidlsg.prompts.source.csv_files import shown
from sidlsg.prompts.source.files import sources_digest
from sidlsg.prompts.work import NothingLeftError, Work
from sidlsg.runtime.errors import ContentError
from sidlsg.runtime.provenance import code_digest, printable
from sidlsg.storage.files import atomic_folder, atomic_write, copy_verified, sha256_bytes, sha256_file
from sidlsg.storage.records import FileRef, FunnelStep, PromptSet
from sidlsg.storage.store import S3
from sidlsg.storage.uri import open_store

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


NEAR_DUPLICATES = "near_duplicates.parquet"
"""Which text each near duplicate gave way to, by the digests of both."""


def require_prompts(plan: Plan, made: Made) -> None:
    """Check that rows are left after every step so far.

    Raises:
        InputError: there are none.
    """
    names = ", ".join(sorted({file.label for file in plan.files}))
    bad = made.bad_files()
    if len(bad) == len(plan.files) + len(plan.bad_files):
        raise NothingLeftError(f"no file of {names} can be used; the first: {bad[0]['reason']}")
    demands = step_demands(plan.rules)
    why = warnings(made.misread(), plan.rules.text.encoding)
    for name, step in made.funnel().items():
        if name == "read" and step.rows_out == 0:
            raise NothingLeftError(f"the sources {names} have no rows; give files with prompts")
        if step.rows_out == 0:
            raise NothingLeftError(
                f"no prompt of {names} is left after the rule {name!r}: none of the {step.rows_in:,} that came to it "
                f"has {demands[name]}; {'; '.join(why) or 'loosen the rule or give other files'}"
            )


SummaryWriter = Callable[[Mapping[str, Any], Path], None]
"""Writes the pages that show a curation's statistics into the folder of its prompt set."""


def finish(
    work: Work, plan: Plan, output: str, source_sha256: str = "", summary: SummaryWriter | None = None
) -> PromptSet:
    """Write the output of a curation whose tasks are all done; it appears whole or not at all.

    Args:
        work: the work folder.
        plan: of the curation.
        output: a folder or S3 prefix, new, empty, or with an earlier prompt set, which is replaced.
        source_sha256: what the digest of the sources must be; empty for no check.
        summary: writes the pages beside the statistics; None for none.

    Raises:
        ContentError: the digest is another.
        InputError: no prompt is left, or the output holds something else.
        StorageError: the S3 server did not take it.
    """
    made = Made(work, plan)
    require_prompts(plan, made)
    found = made.source_digest()
    if source_sha256 and found != source_sha256:
        raise ContentError(
            f"the sources have SHA-256 {found}, but {source_sha256} was given: they were changed, or they are others; "
            "give the digest of this content, or none"
        )
    if output.startswith(S3):
        return _to_s3(work, plan, made, output, summary)
    with atomic_folder(Path(output), marker=PromptSet.FILE) as folder:
        for name in made.files():
            _take(work, f"output/{name}", folder / name)
        _explain(work, plan, made, folder, summary)
        for cut in plan.cuts:
            (folder / cut_folder(cut)).mkdir(parents=True, exist_ok=True)
            made.record(cut).save(folder / cut_folder(cut))
    return made.record(None)


def _take(work: Work, name: str, target: Path) -> None:
    """A file of the work folder as a file of the output. A second name takes no room, and the work stays whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if work.folder is None:
        work.fetch(name, target)
        return
    try:
        os.link(work.folder / name, target)
    except OSError:
        # Another disk, or one that knows no links.
        copy_verified(work.folder / name, target, "")


def _explain(work: Work, plan: Plan, made: Made, folder: Path, summary: SummaryWriter | None) -> None:
    atomic_write(folder / MANIFEST, to_json(made.manifest()))
    statistics = made.statistics()
    atomic_write(folder / STATISTICS, to_json(statistics))
    if summary is not None:
        summary(statistics, folder)
    if plan.rules.duplicates.similarity:
        write_drops(work, plan, folder / NEAR_DUPLICATES)


def _to_s3(work: Work, plan: Plan, made: Made, output: str, summary: SummaryWriter | None) -> PromptSet:
    check_output(output)
    store = open_store(output)
    there = store.names()
    # A reader looks for the record first: without it, what is being replaced is no prompt set.
    records = [f"{cut_folder(cut)}{PromptSet.FILE}" for cut in plan.cuts]
    store.delete([name for name in there if name.endswith(PromptSet.FILE)])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, (sha256, _) in made.files().items():
            work.fetch(f"output/{name}", folder / "shard")
            store.put(name, folder / "shard", sha256)
        (folder / "shard").unlink(missing_ok=True)
        _explain(work, plan, made, folder, summary)
        explained = [path for path in folder.rglob("*") if path.is_file()]
        for path in explained:
            store.put(path.relative_to(folder).as_posix(), path, sha256_file(path))
        kept = {*made.files(), *records, *(path.relative_to(folder).as_posix() for path in explained)}
    store.delete([name for name in there if name not in kept])
    for cut, name in reversed(list(zip(plan.cuts, records, strict=True))):
        store.write(name, made.record(cut).to_json().encode())
    return made.record(None)
