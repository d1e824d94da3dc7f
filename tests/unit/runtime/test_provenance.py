"""What the package says of itself: the digest of its code, the version of its results, the commit."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from sidlsg.runtime import provenance as package
from sidlsg.runtime.progress import Meter
from sidlsg.runtime.progress import note as note
from sidlsg.runtime.provenance import code_digest, headed, pipeline_run, printable, run_tag, say

ROOT = Path(__file__).parents[3]
PLACES = {"": ROOT / "src" / "sidlsg", "components/": ROOT / "components", "pipelines/": ROOT / "pipelines"}


def sources() -> dict[str, str]:
    """SHA-256 by name of every Python file, found by walking the checkout."""
    return {
        f"{prefix}{path.relative_to(root).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for prefix, root in PLACES.items()
        for path in root.rglob("*.py")
    }


def digest_of(files: dict[str, str]) -> str:
    return hashlib.sha256("".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()).hexdigest()


@pytest.fixture(autouse=True)
def fresh() -> None:
    code_digest.cache_clear()


def test_the_digest_covers_the_whole_package() -> None:
    files = sources()
    assert {"cli/app.py", "distil/step.py", "components/distil/component.py"} <= files.keys()
    assert code_digest() == digest_of(files)


def test_a_comment_changes_the_codes_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digest()
    sources = package._sources()
    sources["distil/step.py"] += b"#"
    monkeypatch.setattr(package, "_sources", lambda: sources)
    code_digest.cache_clear()
    assert code_digest() != before
    code_digest.cache_clear()


def test_a_wheel_carries_each_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    found = set()
    for prefix, root in PLACES.items():
        for path in root.rglob("__init__.py"):
            inside = f"{prefix}{path.parent.relative_to(root).as_posix()}".removesuffix("/.").removesuffix(".")
            found.add(".".join(part for part in ("sidlsg", *inside.split("/")) if part))
    assert listed - {"sidlsg.assets"} == found


def test_the_commit_is_the_images_or_the_checkouts(monkeypatch: pytest.MonkeyPatch) -> None:
    from sidlsg.runtime.provenance import git_commit

    git_commit.cache_clear()
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", git_commit())
    git_commit.cache_clear()
    monkeypatch.setenv("SIDLSG_GIT_COMMIT", "abc")
    assert git_commit() == "abc"
    git_commit.cache_clear()


def test_without_a_pipeline_run_no_tag_or_prefix_is_added(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIDLSG_PIPELINE_RUN", raising=False)
    assert pipeline_run() == ""
    assert run_tag() == {}
    say("hello")
    note("hello")
    assert capsys.readouterr().out == "hello\nnote: hello\n"


def test_every_line_begins_with_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SIDLSG_PIPELINE_RUN", " 12-ab\n")
    assert run_tag() == {"pipeline_run": "12-ab"}
    assert headed("one\ntwo") == "run=12-ab one\nrun=12-ab two"
    note("alarm at 1\nalarm at 2")
    with Meter("distil", 2, "images") as meter:
        meter.update(2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["run=12-ab note: alarm at 1", "run=12-ab alarm at 2"]
    assert lines[2].startswith("run=12-ab progress: distil 100%")
    assert all(line.startswith("run=12-ab ") for line in lines)


def test_what_would_steer_a_terminal_is_shown_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIDLSG_PIPELINE_RUN", raising=False)
    say("a\x1b]0;owned\x07\x9b2J\u202eb\ud800\tκ, … 日本\nc")
    assert capsys.readouterr().out == "a\\x1b]0;owned\\x07\\x9b2J\\u202eb\\ud800\tκ, … 日本\nc\n"
    assert printable("plain") == "plain"
