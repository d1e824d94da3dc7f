"""The plan component: a sweep's settings become changes of its recipe."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(
    settings: list[str],
    recipe: str,
    changes: dict,
) -> list[dict]:
    """Turn a sweep's settings into changes of its recipe, all of them checked before the first is distilled.

    Args:
        settings: The settings, each a guidance strategy with its scales, such as lsg kappa=1.5.
        recipe: Name of the recipe.
        changes: Other values of the recipe to replace. {} for none.

    Returns:
        Output: For each setting the values of the recipe to replace, and a number where it failed before.
    """
    from sidlsg.stages.failures import plan_step

    return plan_step(settings, recipe, changes)
