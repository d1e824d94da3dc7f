"""Verdicts as the gate leaves them, for tests that promote without one."""

from __future__ import annotations

from mlflow import MlflowClient

from sidlsg.storage.records import Verdict


def verdict(name: str, version: int, champion: int | None, passed: bool = True) -> Verdict:
    """One without rules, of a scorecard that nobody has."""
    digests = {"scorecard_sha256": "s", "rules_sha256": "r"}
    return Verdict(name=name, version=version, champion_version=champion, passed=passed, rules=(), **digests)


def leave(verdict: Verdict, client: MlflowClient) -> None:
    """Tag the version with it, as the gate does."""
    for key, value in {
        "verdict_sha256": verdict.digest,
        "verdict": "passed" if verdict.passed else "rejected",
    }.items():
        client.set_model_version_tag(verdict.name, str(verdict.version), key, value)
