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
    package_sha256: str,
    prompt_set: Output[Dataset],
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Select, clean and order prompts.

    Args:
        source: Parquet file of captions. A local path, or bundled:NAME.
        source_sha256: SHA-256 that the file must have. Empty for no check.
        held_out: Text file of evaluation captions, which no prompt may repeat. A local path, or bundled:NAME.
        held_out_sha256: SHA-256 that the list must have. Empty for no check.
        rules: JSON object of curation rules to replace. {} for the defaults.
        package_sha256: Digest of the code that runs, a part of the cache key.
        prompt_set: The prompts, with their PromptSet record.

    Returns:
        seconds: How long it took.
    """
    import time
    from pathlib import Path

    from sidlsg.places import resolve
    from sidlsg.prompts.curate import curate as run_stage
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.run.parameters import curation_rules

    began = time.monotonic()
    record = run_stage(
        source=resolve(source, source_sha256),
        output=Path(prompt_set.path),
        rules=curation_rules(rules),
        held_out=read_held_out(resolve(held_out, held_out_sha256)),
    )
    prompt_set.metadata.update(sha256=record.digest, count=record.count, package_sha256=package_sha256)
    return (round(time.monotonic() - began, 1),)
