"""`sidlsg doctor`: what works is said, and what was asked for and does not work sets the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
PROFILES = Path(__file__).parents[3] / "infra" / "profiles"


def found(out: str) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(out)}


def test_nothing_asked_for_is_no_failure(sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, out, errors = sidlsg("doctor", "--json")
    assert (code, errors) == (0, "")
    rows = found(out)
    assert not any(row["works"] is False for row in rows.values())
    assert (rows["MLflow"]["works"], rows["torch"]["works"]) == (None, True)
    assert "lowbit" in str(rows["extras"]["found"])
    assert rows["configuration"]["found"] == "no file"
    assert "GB free" in str(rows["disk"]["found"])


def test_a_server_that_does_not_answer_fails(sidlsg: Run) -> None:
    code, out, _ = sidlsg("doctor", "--tracking-uri", "sqlite:////nonexistent/x.db", "--s3", "no/uri", "--json")
    assert code == 1
    rows = found(out)
    assert [name for name, row in rows.items() if row["works"] is False] == ["MLflow", "S3"]
    assert "no MLflow store at /nonexistent/x.db" in str(rows["MLflow"]["found"])
    assert not Path("/nonexistent").exists()


def test_placeholder_digests_are_found(sidlsg: Run, tmp_path: Path) -> None:
    code, out, _ = sidlsg("doctor", "--profile", str(PROFILES / "team.toml"))
    assert code == 1
    assert "FAILED: curate, train, evaluate: the image's digest is a placeholder" in out
    assert out.endswith(f"\nThis does not work: profile {PROFILES / 'team.toml'}\n")
    real = tmp_path / "team.toml"
    real.write_text((PROFILES / "team.toml").read_text().replace("sha256:00000000", "sha256:12345678"))
    code, out, _ = sidlsg("doctor", "--profile", str(real))
    assert (code, out.splitlines()[-1]) == (0, "All that was checked works.")
    assert "placeholders" in sidlsg("compile", "--profile", str(PROFILES / "team.toml"))[2]
    assert sidlsg("compile", "--profile", str(real))[2] == ""
