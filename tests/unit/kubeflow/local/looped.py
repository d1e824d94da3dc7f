"""A pipeline that runs the same two stages once for each of its items, one item after the other; no test itself."""

from kfp import dsl


@dsl.component(base_image="python", install_kfp_package=False)
def work(item: str) -> str:
    """Prints its item, and does what it says."""
    import time

    from sidlsg.runtime.progress import note as say

    say(f"working on {item}")
    if item == "wait":
        time.sleep(60)
    if item == "fail":
        from sidlsg.runtime.errors import InputError

        raise InputError("this item cannot be used")
    return item


@dsl.component(base_image="python", install_kfp_package=False)
def then(item: str) -> str:
    """Hands on its item."""
    return item


@dsl.component(base_image="python", install_kfp_package=False)
def collect(items: list[str]) -> list[str]:
    """Hands on all of them."""
    return items


@dsl.pipeline(name="looped")
def looped(items: list[str]) -> list[str]:
    """Work on each item."""
    with dsl.ParallelFor(items=items, parallelism=1) as item:
        worked = work(item=item).set_caching_options(True)
        handed = then(item=worked.output).set_caching_options(False)
    return collect(items=dsl.Collected(handed.output)).set_caching_options(False).output
