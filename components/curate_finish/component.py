"""The curate_finish component: the prompt set out of what the pods did."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def curate_finish(
    place: str,
    parts: list[str],
    source_sha256: str,
    output: str,
    prompt_set: Output[Dataset],
    html: Output[HTML],
):
    """Write the prompt set of a curation whose phases are done.

    Args:
        place: Where the curation worked.
        parts: What the last phase left to do. Nothing.
        source_sha256: SHA-256 that the sources must have. Empty for no check.
        output: Folder or s3:// prefix that receives the set as well. Empty for none.
        prompt_set: The prompts, with their PromptSet record.
        html: The summary.
    """
    from pathlib import Path

    from sidlsg.stages.curate import curate_finish_step

    record = curate_finish_step(place, parts, source_sha256, output, Path(prompt_set.path), Path(html.path))
    prompt_set.metadata.update(sha256=record.digest, count=record.count)
