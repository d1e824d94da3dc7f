"""What the package says of itself: the digest of its code, the version of its results, the commit."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sidlsg.distil.recipes import RECIPES
from sidlsg.runtime import provenance as package
from sidlsg.runtime.provenance import code_digest, results_version

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


def test_a_comment_changes_the_codes_digest_and_not_the_version_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    before, version = code_digest(), results_version()
    real = package._python_files

    def changed(folder: object, prefix: str) -> dict[str, bytes]:
        found = real(folder, prefix)  # type: ignore[arg-type]
        return {n: c + b"#" if n == "distil/step.py" else c for n, c in found.items()}

    monkeypatch.setattr(package, "_python_files", changed)
    code_digest.cache_clear()
    assert code_digest() != before
    assert results_version() == version
    code_digest.cache_clear()


@pytest.mark.parametrize("stage", ["prompts", "teacher", "distil"])
def test_a_raised_version_changes_that_of_results(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results_version()
    monkeypatch.setattr(getattr(package, stage), "NUMERICS", "raised")
    assert results_version() != before


def test_so_do_a_measures_version_the_packages_and_a_recipes_value(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [results_version()]
    monkeypatch.setitem(package.evaluate.NUMERICS, "judge", "2")
    found.append(results_version())
    monkeypatch.setattr(package, "__version__", "0.2.0")
    found.append(results_version())
    monkeypatch.setitem(RECIPES, "tiny", dataclasses.replace(RECIPES["tiny"], lr=1e-4))
    found.append(results_version())
    assert len(set(found)) == 4


def test_the_version_of_results_needs_no_network_library() -> None:
    code = "import sys, sidlsg.runtime.provenance as p; p.results_version(); "
    code += "sys.exit(str({'torch', 'polars'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == "set()"


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
