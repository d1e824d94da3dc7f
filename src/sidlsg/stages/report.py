"""The `report` stage: writes one HTML page from all records of a run, and records the run's cost on its version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidlsg.distil.recipes import published_results
from sidlsg.registry.address import given_address
from sidlsg.report.run_page import write_report
from sidlsg.runtime.costs import cost, costs_json, parse_prices
from sidlsg.runtime.overrides import changes_text
from sidlsg.storage.records import ModelVersion, Promotion, Verdict


def report_step(
    *,
    account: Path,
    scorecard: Path,
    version: str,
    verdict: str,
    promotion: str,
    seconds: dict[str, float],
    hourly_price: float,
    prices: Mapping[str, Any],
    tracking_uri: str,
    html: Path,
) -> str:
    """Write the page; return duration and price of each stage, as JSON."""
    registered, priced = ModelVersion.from_json(version), parse_prices(changes_text(prices), hourly_price)
    write_report(
        prompts=account,
        student=account,
        scorecard=scorecard,
        version=registered,
        verdict=Verdict.from_json(verdict),
        promotion=Promotion.from_json(promotion),
        seconds=seconds,
        prices=priced,
        output=html,
        published=published_results(),
    )
    total = cost(seconds, priced)
    if total.priced:
        # Imported here: MLflow takes seconds, and a run without prices does not use it.
        from sidlsg.registry.versions import record_cost

        record_cost(registered, given_address(tracking_uri), total.amount)
    return costs_json(seconds, priced)
