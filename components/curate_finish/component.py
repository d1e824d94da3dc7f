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

    from sidlsg.stages.curate import finish_parts

    if parts:
        raise ValueError(f"parts {parts} of the last phase are left")
    record = finish_parts(place, prompt_set.path, source_sha256, output)
    prompt_set.metadata.update(sha256=record.digest, count=record.count)
    Path(html.path).write_bytes((Path(prompt_set.path) / "summary.html").read_bytes())
