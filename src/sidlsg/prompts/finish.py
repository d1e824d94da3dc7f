"""Turns the work of a curation into its output: the prompt set, its cuts, and what explains them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sidlsg.prompts.notes import warnings
from sidlsg.prompts.output import check_output
from sidlsg.prompts.phases.near import write_drops
from sidlsg.prompts.phases.row_steps import step_demands
from sidlsg.prompts.phases.selection import cut_folder
from sidlsg.prompts.place import NothingLeftError
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.prompt_set import MANIFEST, STATISTICS, Made, to_json
from sidlsg.prompts.work import Work
from sidlsg.report.curation import write_summary
from sidlsg.runtime.errors import ContentError
from sidlsg.storage.files import atomic_folder, atomic_write, copy_verified, sha256_file
from sidlsg.storage.records import PromptSet
from sidlsg.storage.store import S3, open_store

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


def finish(work: Work, plan: Plan, output: str, source_sha256: str = "") -> PromptSet:
    """Write the output of a curation whose tasks are all done; it appears whole or not at all.

    Args:
        work: the work folder.
        plan: of the curation.
        output: a folder or S3 prefix, new, empty, or with an earlier prompt set, which is replaced.
        source_sha256: what the digest of the sources must be; empty for no check.

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
        return _to_s3(work, plan, made, output)
    with atomic_folder(Path(output), marker=PromptSet.FILE) as folder:
        for name in made.files():
            _take(work, f"output/{name}", folder / name)
        _explain(work, plan, made, folder)
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


def _explain(work: Work, plan: Plan, made: Made, folder: Path) -> None:
    atomic_write(folder / MANIFEST, to_json(made.manifest()))
    statistics = made.statistics()
    atomic_write(folder / STATISTICS, to_json(statistics))
    write_summary(statistics, folder)
    if plan.rules.duplicates.similarity:
        write_drops(work, plan, folder / NEAR_DUPLICATES)


def _to_s3(work: Work, plan: Plan, made: Made, output: str) -> PromptSet:
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
        _explain(work, plan, made, folder)
        explained = [path for path in folder.rglob("*") if path.is_file()]
        for path in explained:
            store.put(path.relative_to(folder).as_posix(), path, sha256_file(path))
        kept = {*made.files(), *records, *(path.relative_to(folder).as_posix() for path in explained)}
    store.delete([name for name in there if name not in kept])
    for cut, name in reversed(list(zip(plan.cuts, records, strict=True))):
        store.write(name, made.record(cut).to_json().encode())
    return made.record(None)
