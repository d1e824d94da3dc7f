"""The curate_finish component: writes the prompt set from the pods' results."""

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
        place: Work folder of the curation: a path or s3:// prefix.
        parts: Parts left after the last phase. Must be empty.
        source_sha256: Expected SHA-256 of the sources. Empty for no check.
        output: Folder or s3:// prefix that also receives the prompt set. Empty for none.
        prompt_set: The prompts, with their PromptSet record.
        html: The summary of the curation, one HTML file.
    """
    from pathlib import Path

    from sidlsg.stages.curate import curate_finish_step

    record = curate_finish_step(place, parts, source_sha256, output, Path(prompt_set.path), Path(html.path))
    prompt_set.metadata.update(sha256=record.digest, count=record.count)
