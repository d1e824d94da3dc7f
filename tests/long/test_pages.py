"""Every command of every page, as it is printed: one page after the other, in one copy of the project.

A block that cannot run here has a comment `<!-- not run: why -->` on the line before it. The copy holds what the pages
call the user's own: captions, a held-out list, a teacher, a bucket. They are small, and a configuration file makes the
trainings after the demo short.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from services.seaweedfs import SeaweedFS
from sidlsg.distil.recipes import RECIPES
from sidlsg.registry.server.process import free_ports

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
WHOLE = (README, ROOT / "docs" / "from-the-demo.md")
"""Pages that come first, and whose trainings are run at their length."""
BLOCK = re.compile(r"(?:^<!-- not run: (?P<why>.+?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
PORTS = ("5000", "5001", "8080", "9464")
INSTEAD = {"make test ": "true "}
"""Commands of pages and what runs in place of them: these are the tests."""
_TINY = "iterations = 4\nbatch = 16\nmicro_batch = 16\nevaluate_every = 0\n"
SHORT = (
    '[options]\ngate_rules = "lenient.toml"\n'
    + "".join(f"[recipes.{name}]\n{_TINY}" for name in RECIPES if name.startswith("tiny"))
    + "[recipes.sd15]\niterations = 2\nbatch = 4\nmicro_batch = 2\n"
)
LENIENT = """\
[[floor]]
score = "attributes"
limit = 0.1
"""

pytestmark = pytest.mark.long


def pages() -> list[Path]:
    """Those of `WHOLE`, then the pages of docs in the order of README's links, then the others."""
    linked = [ROOT / link for link in re.findall(r"\((docs/[\w-]+\.md)", README.read_text())]
    return list(dict.fromkeys([*WHOLE, *linked, *sorted((ROOT / "docs").glob("*.md"))]))


def shell(page: Path) -> str:
    """The page's blocks of shell that run here, as one script."""
    return "".join(
        block["text"]
        for block in BLOCK.finditer(page.read_text())
        if block["kind"] in ("bash", "sh") and not block["why"]
    )


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """A copy of what git has of the project, with this environment as its own and the user's files beside."""
    with tempfile.TemporaryDirectory(prefix="pages-", ignore_cleanup_errors=True) as parent:
        Path(parent).chmod(0o755)  # the page's PostgreSQL has a user of its own
        yield _copy(Path(parent) / "project")


def _copy(folder: Path) -> Path:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (folder / ".venv" / part).symlink_to(Path(sys.prefix) / part)
    (folder / ".venv" / ".ready").touch()

    bundled = folder / "assets"
    shutil.copy(bundled / "prompts" / "held_out.txt", folder)
    (folder / "teacher").symlink_to(bundled / "tiny-sd")
    table = pq.read_table(bundled / "prompts" / "prompts.parquet")
    for name, column in (("caption", "TEXT"), ("aesthetic", "AESTHETIC_SCORE")):
        table = table.append_column(name, table[column])
    pq.write_table(table, folder / "captions.parquet")
    (folder / "tables").mkdir()
    pq.write_table(table, folder / "tables" / "part-0.parquet")
    (folder / "captions.txt").write_text("\n".join(filter(None, table["TEXT"].to_pylist())) + "\n")
    run = [str(folder / ".venv" / "bin" / "sidlsg"), "curate", "--output", str(folder / "prompts")]
    subprocess.run(run, check=True, capture_output=True)
    (folder / "lenient.toml").write_text(LENIENT)
    return folder


@pytest.fixture(scope="module")
def environment(s3_server: SeaweedFS, project: Path) -> dict[str, str]:
    """What a new shell has, and an S3 server with the pages' bucket."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_", "SIDLSG_"))}
    ours.pop("OMP_NUM_THREADS", None)
    s3_server.require_bucket("bucket")
    s3_server.client().upload_file(str(project / "captions.parquet"), "bucket", "laion/part-0.parquet")
    return {**ours, **s3_server.client_environment(), "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"}


@contextlib.contextmanager
def session(command: list[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """A process with all that it started, which ends with it: pages start servers."""
    process = subprocess.Popen(command, start_new_session=True, text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.parametrize("page", [page for page in pages() if shell(page)], ids=lambda page: page.name)
def test_every_command_of_the_page_in_order(page: Path, project: Path, environment: dict[str, str]) -> None:
    demo = project.parent / "runs"
    if page not in WHOLE:
        (project / "sidlsg.toml").write_text(SHORT)
        if demo.exists():  # not where a page is run alone
            shutil.copytree(demo, project / "runs", symlinks=True)
    before = set(project.iterdir()) - {project / "runs"}
    script = shell(page)
    for command, instead in INSTEAD.items():
        script = script.replace(command, instead)
    for port, free in zip(PORTS, free_ports(len(PORTS)), strict=True):
        script = re.sub(rf"\b{port}\b", str(free), script)
    log = project.parent / f"{page.stem}.log"
    with (
        log.open("w") as file,  # a pipe would be held open by the page's servers
        session(["bash", "-e", "-o", "pipefail", "-x", "-c", script], cwd=project, env=environment,
                stdout=file, stderr=subprocess.STDOUT) as bash,
    ):  # fmt: skip
        code = bash.wait(timeout=3000)  # a page that waits for a server would wait for one that has ended
    printed = log.read_text()
    assert code == 0, printed[-5000:]
    if page.stem == "from-the-demo":
        assert printed.count("\nexit code 3\n") == 1  # the gate's
        assert printed.count("\nexit code 2\n") == 1  # a version with an alias stays
        assert "sidlsg-tiny is in order" in printed
        assert (project / "image.png").read_bytes().startswith(b"\x89PNG")
        assert not (project / "runs" / "second" / "student").exists()
    # Each page begins with the user's own files and the demo's run, whatever the pages before it have made.
    for made in set(project.iterdir()) - before - ({project / "runs"} if page in WHOLE else set()):
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    if page == WHOLE[-1]:
        (project / "runs").rename(demo)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_no_comment_of_a_block_is_lost(page: Path) -> None:
    reasons = re.findall(r"<!-- not run: .+? -->", page.read_text(), re.S)
    assert len(reasons) == sum(1 for block in BLOCK.finditer(page.read_text()) if block["why"])
