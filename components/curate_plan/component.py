"""The curate_plan component: what there is to curate is found, and cut into tasks."""

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
    """Find the sources of a prompt set and cut the work into tasks that pods share.

    Args:
        source: Tables of captions, with semicolons between. Paths that every pod can read, s3:// or bundled:NAME.
        held_out: Text file of evaluation captions, which no prompt may repeat. A path, or bundled:NAME.
        rules: Curation rules to replace. {} for the defaults.
        work: Folder on a shared volume, or s3:// prefix, for what pods hand to each other.
        memory_gb: Most gigabytes that one of them may take.
        skip_bad_files: Leave out files that cannot be read, and list them in the manifest.

    Returns:
        Output: Where this curation works.
    """
    from sidlsg.stages.curate import curate_plan_step

    return curate_plan_step(source, held_out, rules, work, memory_gb, skip_bad_files)
