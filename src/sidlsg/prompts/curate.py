"""The `curate` stage: from one parquet file of captions to a `PromptSet`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sidlsg.errors import InputError
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.shards import write_shards
from sidlsg.prompts.source import Prompt, read_source
from sidlsg.prompts.steps import Step, curation_steps, select
from sidlsg.records import FunnelStep, PromptSet, file_ref
from sidlsg.storage import atomic_folder, atomic_write, refuse_foreign, refuse_inside, sha256_bytes, sha256_file

STATS_FILE = "stats.json"
"""Beside the record: the funnel, and how many prompts have how many words."""


def curate(
    source: Path, output: Path, rules: CurationRules, held_out: Sequence[str], rows_per_shard: int = 65536
) -> PromptSet:
    """Select, clean and order the prompts of a table.

    Equal inputs give equal bytes, whatever the machine. The prompts' order is that of the SHA-256 of their
    case-folded text, so that it does not depend on the order of the source either.

    Args:
        source: one parquet file.
        output: the folder for the shards, `stats.json` and the record; replaced if it is an earlier output.
        rules: what a row must have.
        held_out: captions that are removed, however they are written.
        rows_per_shard: the most prompts in one shard.

    Raises:
        InputError: the source cannot be used, no prompt is left after a step, or `output` holds something else.
            Nothing is written then.
    """
    if rows_per_shard < 1:
        raise InputError(f"rows_per_shard is {rows_per_shard}; give 1 or more")
    # Before the source is read, which can take long.
    refuse_foreign(output, PromptSet.FILE)
    refuse_inside(output, **{"prompt file": source})

    steps = curation_steps(rules, held_out)
    prompts, funnel = select(read_source(source, rules), steps)
    _require_prompts(source, steps, funnel)

    with atomic_folder(output, marker=PromptSet.FILE) as folder:
        shards = write_shards(prompts, folder / "shards", rows_per_shard)
        atomic_write(folder / STATS_FILE, _stats(prompts, funnel))
        record = PromptSet(
            source_sha256=sha256_file(source),
            rules_sha256=rules.digest,
            held_out_sha256=held_out_digest(held_out),
            count=len(prompts),
            shards=tuple(file_ref(shard, folder) for shard in shards),
            funnel=funnel,
        )
        record.save(folder)
    return record


def held_out_digest(held_out: Sequence[str]) -> str:
    """SHA-256 of the list as a text file with one caption a line."""
    return sha256_bytes("".join(f"{caption}\n" for caption in held_out).encode())


def _require_prompts(source: Path, steps: Sequence[Step], funnel: Sequence[FunnelStep]) -> None:
    read, *rest = funnel
    if read.rows_out == 0:
        raise InputError(f"{source} has no rows; give a parquet file with prompts")
    for step, count in zip(steps, rest, strict=True):
        if count.rows_out == 0:
            raise InputError(
                f"no prompt of {source} is left after the rule {step.name!r}: none of the {count.rows_in} that came "
                f"to it has {step.demand}; loosen the rule or give another file"
            )


def _stats(prompts: Sequence[Prompt], funnel: Sequence[FunnelStep]) -> str:
    words = Counter(len(prompt.text.split()) for prompt in prompts)
    stats = {
        "funnel": [asdict(step) for step in funnel],
        "prompts_by_words": {str(length): words[length] for length in sorted(words)},
    }
    return json.dumps(stats, indent=2) + "\n"
