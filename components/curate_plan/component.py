"""The curate_plan component: finds the sources of a curation and splits the work into tasks."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def curate_plan(
    source: str,
    held_out: str,
    rules: dict,
    work: str,
    memory_gb: float,
    skip_bad_files: bool,
) -> str:
    """Find the sources of a prompt set and split the work into tasks for several pods.

    Args:
        source: Tables of captions, separated by semicolons. Paths that every pod can read, s3:// URIs or bundled:NAME.
        held_out: Text file of evaluation captions, which no prompt may repeat. A path or bundled:NAME.
        rules: Curation rules to override. {} for the defaults.
        work: Folder on a shared volume, or s3:// prefix, for the pods' intermediate files.
        memory_gb: Maximum memory of one pod in gigabytes.
        skip_bad_files: Skip files that cannot be read, and list them in the manifest.

    Returns:
        Output: Work folder of this curation: a path or s3:// prefix.
    """
    from sidlsg.stages.curate import curate_plan_step

    return curate_plan_step(source, held_out, rules, work, memory_gb, skip_bad_files)
