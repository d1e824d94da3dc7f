"""A prompt set out of tables that are too large for one machine: each phase of curation is shared by many pods."""

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
"""In the order of `sidlsg.prompts.phases.phases`, which is not imported here: it takes half a second."""


class Outputs(NamedTuple):
    """What a run of the pipeline leaves."""

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

    The result is the same to the byte as that of one machine. A retried step goes on with what its pod had not
    finished. Nothing is cached: what a phase did is in the work place.

    Args:
        prompts: Tables of captions, with semicolons between. Paths that the pods can read, s3:// or bundled:NAME.
        prompts_sha256: SHA-256 that they must have. Empty for no check.
        rules: Curation rules to replace, such as {"score.minimum": 5.5}.
        held_out: Text file of evaluation captions, one a line, which no prompt may repeat. A path, or bundled:NAME.
        pods: How many pods share a phase.
        memory_gb: Most gigabytes that one of them may take.
        work: Folder on a volume that all pods mount, or s3:// prefix, for what they hand to each other.
        output: Folder or s3:// prefix that receives the set as well. Empty for none.
        skip_bad_files: Leave out files that cannot be read, and list them in the manifest.

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
    # A step of its own, so that the one before can be retried.
    cleared = curate_join(place=place, phase="finish", pods=pods, done=[]).after(finished).set_caching_options(False)
    on_cluster(finished, cleared)
    return Outputs(prompt_set=finished.outputs["prompt_set"], html=finished.outputs["html"])
