"""The curate_join component: the end of a phase of curation, once all pods have run their shares."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def curate_join(
    place: str,
    phase: str,
    pods: int,
    done: list[str],
) -> list[str]:
    """Check that a phase is done, and clear away what is read no more.

    Args:
        place: Where the curation works.
        phase: Name of the phase. plan before the first, finish to delete all work.
        pods: How many pods run at once.
        done: The parts that ran.

    Returns:
        Output: The next phase's parts, each as JSON.
    """
    from sidlsg.stages.curate import curate_join_step

    # Taking what the parts gave is what makes this step wait for them; the work place says what they did.
    del done
    return curate_join_step(place, phase, pods)
