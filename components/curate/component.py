"""The curate component: a table of captions becomes a prompt set."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def curate(
    source: str,
    source_sha256: str,
    held_out: str,
    held_out_sha256: str,
    rules: str,
    engine: str,
    workers: int,
    memory_gb: float,
    work: str,
    package_sha256: str,
    prompt_set: Output[Dataset],
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Select, clean and order prompts.

    Args:
        source: Tables of captions, with semicolons between. Local paths, s3:// or bundled:NAME.
        source_sha256: SHA-256 that they must have. Empty for no check.
        held_out: Text file of evaluation captions, which no prompt may repeat. A local path, or bundled:NAME.
        held_out_sha256: SHA-256 that the list must have. Empty for no check.
        rules: JSON object of curation rules to replace. {} for the defaults.
        engine: Where it runs. native, or ray:auto or ray://HOST:PORT for a Ray cluster that reaches the work place.
        workers: How many tasks at once in this step.
        memory_gb: Most gigabytes that they may take together.
        work: Folder or s3:// prefix for unfinished work. Empty for one beside the output.
        package_sha256: Digest of the versions that decide results, a part of the cache key.
        prompt_set: The prompts, with their PromptSet record.

    Returns:
        seconds: How long it took.
    """
    import time
    from pathlib import Path

    from sidlsg.options import split_list
    from sidlsg.places import resolve
    from sidlsg.prompts.curate import Execution
    from sidlsg.prompts.curate import curate as run_stage
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.run.parameters import curation_rules

    began = time.monotonic()
    record = run_stage(
        sources=split_list(source, ";"),
        output=Path(prompt_set.path),
        rules=curation_rules(rules),
        held_out=read_held_out(resolve(held_out, held_out_sha256)),
        execution=Execution(
            engine=engine, workers=workers, memory_gb=memory_gb, work=work, source_sha256=source_sha256
        ),
        report=print,
    )
    prompt_set.metadata.update(sha256=record.digest, count=record.count, package_sha256=package_sha256)
    return (round(time.monotonic() - began, 1),)
