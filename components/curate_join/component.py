"""The curate_join component: ends a phase of curation after all pods have run their shares."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def curate_join(
    place: str,
    phase: str,
    pods: int,
    done: list[str],
) -> list[str]:
    """Check that a phase is complete, and delete work files that no later phase reads.

    Args:
        place: Work folder of the curation: a path or s3:// prefix.
        phase: Name of the completed phase; plan before the first phase, finish to delete all work files.
        pods: Number of pods that run in parallel.
        done: Parts that ran; used only to wait for them.

    Returns:
        Output: The next phase's parts, each as JSON.
    """
    from sidlsg.stages.curate import curate_join_step

    # The input makes this step wait for the parts; their results are in the work folder.
    del done
    return curate_join_step(place, phase, pods)
