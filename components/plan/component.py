"""The plan component: turns a sweep's settings into changes of its recipe."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(
    settings: list[str],
    recipe: str,
    changes: dict,
) -> list[dict]:
    """Turn a sweep's settings into changes of its recipe, and check all of them before training starts.

    Args:
        settings: The settings: each a guidance strategy with its scales and other values of the recipe, such as
            lsg kappa=1.5 steps=4.
        recipe: Name of the recipe.
        changes: Values of the recipe that all settings override. {} for none.

    Returns:
        Output: For each setting, the recipe values to override; where needed, the setting's text and attempt number.
    """
    from sidlsg.stages.failures import plan_step

    return plan_step(settings, recipe, changes)
