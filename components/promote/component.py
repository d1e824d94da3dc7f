"""The promote component: makes a version the champion if its verdict passed."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Markdown, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    verdict: str,
    tracking_uri: str,
    summary: Output[Markdown],
) -> NamedTuple("Outputs", [("promotion", str), ("seconds", float)]):
    """Move the champion's alias to the judged version, if the verdict passed.

    Args:
        verdict: The Verdict record, as JSON.
        tracking_uri: MLflow: an http(s) address, or sqlite:///FILE. Empty for the address in the step's environment.
        summary: Whether the alias moved, and where it points.

    Returns:
        promotion: The Promotion record, as JSON.
        seconds: Duration of the step in seconds.
    """
    from pathlib import Path

    from sidlsg.stages.promote import promote_step

    promotion, seconds = promote_step(verdict, tracking_uri, Path(summary.path))
    return promotion.to_json(), seconds
