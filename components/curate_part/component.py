"""The curate_part component: one pod's share of a phase of curation."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def curate_part(part: str) -> str:
    """Run one pod's share of a phase; a retry skips tasks that are already done.

    Args:
        part: The pod's part of the phase, as JSON from curate_join.

    Returns:
        Output: The input part, unchanged.
    """
    from sidlsg.stages.curate import curate_part_step

    return curate_part_step(part)
