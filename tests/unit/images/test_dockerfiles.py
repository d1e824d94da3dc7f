"""The Dockerfiles as texts: hadolint's opinion, and what the project asks of all of them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NAMES = ("curate", "evaluate", "mlflow", "serve", "train", "trigger")
FILES = {name: (ROOT / "images" / name / "Dockerfile").read_text() for name in NAMES}
BASE = re.compile(r"^ARG BASE=(\S+:\S+@sha256:[0-9a-f]{64})$", re.MULTILINE)
PINNED = {
    re.split(r"[=\[]", line)[0].lower().replace("_", "-")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
}


def test_these_are_all() -> None:
    assert {each.parent.name for each in (ROOT / "images").glob("*/Dockerfile")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_hadolint_has_nothing_to_say(name: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "images" / name / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_the_base_is_an_argument_with_a_digest_and_the_only_one(name: str) -> None:
    text = FILES[name]
    assert len(BASE.findall(text)) == 1
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}


def test_images_of_one_kind_share_their_base() -> None:
    bases = {name: BASE.findall(text)[0] for name, text in FILES.items()}
    assert bases["train"] == bases["evaluate"] == bases["serve"]
    assert "cuda" in bases["train"]
    assert len({bases[name] for name in ("curate", "mlflow", "trigger")}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_last_stage_runs_as_an_unprivileged_user(name: str) -> None:
    last = FILES[name].rpartition("FROM ")[2]
    assert "USER 10001:10001" in last
    assert "-m pip" not in last


@pytest.mark.parametrize("name", NAMES)
def test_what_changes_with_each_commit_comes_last(name: str) -> None:
    text = FILES[name]
    assert text.index("requirements") < text.index("COPY dist/sidlsg-*.whl") < text.index("ARG COMMIT")
    assert text.index("COPY --from=build") < text.index("ARG COMMIT")


@pytest.mark.parametrize(
    "file",
    sorted(file for file in (ROOT / "images").glob("*/requirements*.txt") if not file.stem.endswith("-hashed")),
    ids=lambda file: str(file.parent.name),
)
def test_every_package_has_its_version_from_the_lock_or_beside_it(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith(("#", "-r "))]
    assert lines
    for line in lines:
        assert "==" in line or re.split(r"[\[]", line)[0] in PINNED, line


def test_a_service_tells_its_health() -> None:
    for name, text in FILES.items():
        assert ("HEALTHCHECK" in text) == (name in ("serve", "trigger", "mlflow"))


def test_the_build_script_is_sound() -> None:
    subprocess.run(["bash", "-n", ROOT / "images" / "build.sh"], check=True)


@pytest.mark.parametrize("changed", [False, True])
def test_only_a_tree_without_changes_gives_a_commits_tag(tmp_path: Path, changed: bool) -> None:
    (tmp_path / "images" / "curate").mkdir(parents=True)
    (tmp_path / "images" / "curate" / "Dockerfile").write_text("FROM scratch\n")
    shutil.copy(ROOT / "images" / "build.sh", tmp_path / "images")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    if changed:
        (tmp_path / "new").write_text("")
    head = subprocess.run([*git, "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    commit = head.stdout.strip()
    # Neither builds anything: what is looked at is what they are told.
    environment = {**os.environ, "DOCKER": "echo", "PYTHON": "true", "REGISTRY": "r.example.com/a/"}
    done = subprocess.run([tmp_path / "images" / "build.sh", "curate"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"COMMIT={commit}{'+changes' if changed else ''} " in done.stdout
    tag = f"r.example.com/a/sidlsg-curate:{commit}{'-changes' if changed else ''}"
    assert f"--tag {tag} ." in done.stdout
    assert done.stdout.splitlines()[-1] == f"built {tag}"


def test_an_image_that_is_not_there_is_refused() -> None:
    done = subprocess.run([ROOT / "images" / "build.sh", "trian"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no image is called trian; there are: curate" in done.stdout
