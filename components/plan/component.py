"""The plan component: a sweep's settings become changes of its recipe."""

from kfp import dsl

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(
    settings: list[str],
    recipe: str,
    changes: str,
) -> list[str]:
    """Turn a sweep's settings into changes of its recipe, all of them checked before the first is distilled.

    Args:
        settings: The settings, each a guidance strategy with its scales, such as lsg kappa=1.5.
        recipe: Name of the recipe.
        changes: JSON object of the recipe's other values to replace. {} for none.

    Returns:
        Output: For each setting a JSON object of the recipe's values to replace.
    """
    from sidlsg.run.settings import plan_changes

    return plan_changes(settings, recipe, changes)
