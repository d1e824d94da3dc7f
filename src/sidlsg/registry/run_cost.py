"""What a whole run cost, on the version that came of it."""

from __future__ import annotations

from sidlsg.storage.records import ModelVersion

COST_TAG = "run_cost"
"""The tag with the sum over all stages of the run that reported on the version last."""


def record_cost(version: ModelVersion, tracking_uri: str, amount: float) -> None:
    """Say on a version what its run cost.

    Args:
        version: of a student.
        tracking_uri: of its registry.
        amount: of all stages together, in the currency of the prices.

    Raises:
        InputError: there is no such version, or MLflow cannot be reached.
    """
    # Imported here: MLflow takes seconds, and a run without prices has no cost to record.
    from sidlsg.registry.connection import connect
    from sidlsg.registry.explain import explained
    from sidlsg.registry.versions import require_same_student

    @explained
    def record(tracking_uri: str) -> None:
        client = connect(tracking_uri)
        registered = require_same_student(client, version.name, version.version, version.student_sha256)
        client.set_model_version_tag(registered.name, str(registered.version), COST_TAG, f"{amount:.4f}")

    record(tracking_uri)
