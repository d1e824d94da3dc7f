"""The curate_part component: one pod's share of a phase of curation."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def curate_part(part: str) -> str:
    """Run one pod's share of a phase; tasks that an earlier try finished are not run again.

    Args:
        part: Which share of which phase, as curate_join gave it.

    Returns:
        Output: The same.
    """
    from sidlsg.stages.curate import curate_part_step

    return curate_part_step(part)
