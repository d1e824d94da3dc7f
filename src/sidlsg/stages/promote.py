"""The `promote` stage: moves the champion's alias if the verdict passed."""

from __future__ import annotations

from pathlib import Path

from sidlsg.registry.address import given_address
from sidlsg.registry.promotion import promote
from sidlsg.report.markdown import promotion_markdown
from sidlsg.stages import timed
from sidlsg.storage.records import Promotion, Verdict


@timed
def promote_step(verdict: str, tracking_uri: str, summary: Path) -> Promotion:
    """Move the alias if the Verdict record, as JSON, passed; `summary` receives Markdown."""
    judged = Verdict.from_json(verdict)
    promotion = promote(judged, given_address(tracking_uri))
    summary.write_text(promotion_markdown(promotion, judged))
    return promotion
