"""Curate tables that are too large for one machine: several pods share each phase."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset

from sidlsg.components.cluster import on_cluster
from sidlsg.components.curate_finish.component import curate_finish
from sidlsg.components.curate_join.component import curate_join
from sidlsg.components.curate_part.component import curate_part
from sidlsg.components.curate_plan.component import curate_plan
from sidlsg.storage.uri import HELD_OUT, PROMPTS

PHASES = ("scan", "unique", "pairs", "left", "verify", "groups", "settle", "trim", "write")
"""The names in `sidlsg.prompts.phases.phases`, in its order; not imported here, because that takes half a second."""


class Outputs(NamedTuple):
    """Outputs of a run."""

    prompt_set: Dataset
    html: HTML


@dsl.pipeline(name="curate")
def curate(
    prompts: str = PROMPTS,
    prompts_sha256: str = "",
    rules: dict = {},  # noqa: B006 - read once, when the pipeline is made
    held_out: str = HELD_OUT,
    pods: int = 4,
    memory_gb: float = 2.0,
    work: str = "/tmp/sidlsg-curate",
    output: str = "",
    skip_bad_files: bool = False,
) -> Outputs:
    """Select, clean, deduplicate and order prompts, each phase spread over pods.

    The result is byte-identical to that of a single machine. A retried step continues with the tasks that its pod had
    not finished. No step is cached: the results of each phase are in the work folder.

    Args:
        prompts: Tables of captions, separated by semicolons. Paths that the pods can read, s3:// URIs or bundled:NAME.
        prompts_sha256: Expected SHA-256 of those tables. Empty for no check.
        rules: Curation rules to override, such as {"score.minimum": 5.5}.
        held_out: Text file of evaluation captions, one per line, which no prompt may repeat. A path or bundled:NAME.
        pods: Number of pods that share a phase.
        memory_gb: Maximum memory of one pod in gigabytes.
        work: Folder on a volume that all pods mount, or s3:// prefix, for the pods' intermediate files.
        output: Folder or s3:// prefix that also receives the prompt set. Empty for none.
        skip_bad_files: Skip files that cannot be read, and list them in the manifest.

    Returns:
        prompt_set: The curated prompts.
        html: The summary of the curation.
    """
    planned = curate_plan(
        source=prompts,
        held_out=held_out,
        rules=rules,
        work=work,
        memory_gb=memory_gb,
        skip_bad_files=skip_bad_files,
    ).set_caching_options(False)
    place = planned.output
    joined = curate_join(place=place, phase="plan", pods=pods, done=[]).set_caching_options(False)
    on_cluster(planned, joined)
    parts = joined.output
    for phase in PHASES:
        with dsl.ParallelFor(items=parts) as part:
            done = curate_part(part=part).set_caching_options(False)
        joined = curate_join(place=place, phase=phase, pods=pods, done=dsl.Collected(done.output)).set_caching_options(
            False
        )
        on_cluster(done, joined)
        parts = joined.output
    finished = curate_finish(place=place, parts=parts, source_sha256=prompts_sha256, output=output).set_caching_options(
        False
    )
    # A separate step, so that curate_finish can be retried.
    cleared = curate_join(place=place, phase="finish", pods=pods, done=[]).after(finished).set_caching_options(False)
    on_cluster(finished, cleared)
    return Outputs(prompt_set=finished.outputs["prompt_set"], html=finished.outputs["html"])
