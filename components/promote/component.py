"""The promote component: a verdict that passed makes its version the champion."""

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
        tracking_uri: MLflow: the http(s) address of a server, or sqlite:///FILE. Empty for the one that the step's
            environment names.
        summary: Whether the alias moved, and where it points.

    Returns:
        promotion: The Promotion record, as JSON.
        seconds: How long it took.
    """
    import time
    from pathlib import Path

    from sidlsg.registry.address import given_address
    from sidlsg.registry.promotion import promote as run_stage
    from sidlsg.report.markdown import promotion_markdown
    from sidlsg.storage.records import Verdict

    began = time.monotonic()
    judged = Verdict.from_json(verdict)
    record = run_stage(verdict=judged, tracking_uri=given_address(tracking_uri))
    Path(summary.path).write_text(promotion_markdown(record, judged))
    return record.to_json(), round(time.monotonic() - began, 1)
