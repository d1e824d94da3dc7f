"""The curate component: makes a prompt set from tables of captions."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def curate(
    source: str,
    source_state: str,
    held_out: str,
    rules: dict,
    results_version: str,
    prompt_set: Output[Dataset],
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Select, clean and order prompts.

    Args:
        source: Tables of captions, separated by semicolons. Local paths, s3:// URIs or bundled:NAME.
        source_state: Digest of those tables, computed by the component resolve. Empty for no check.
        held_out: Text file of evaluation captions, which no prompt may repeat. A local path or bundled:NAME.
        rules: Curation rules to override. {} for the defaults.
        results_version: Digest of the versions that affect results; part of the cache key.
        prompt_set: The prompts, with their PromptSet record.

    Returns:
        seconds: Duration of the step in seconds.
    """
    from pathlib import Path

    from sidlsg.stages.curate import curate_step

    record, seconds = curate_step(source, source_state, held_out, rules, Path(prompt_set.path))
    prompt_set.metadata.update(sha256=record.digest, count=record.count, results_version=results_version)
    return (seconds,)
