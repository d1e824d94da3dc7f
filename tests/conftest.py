"""What all tests share: quiet libraries, one thread, small real networks, and a real S3 server."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import sys
import traceback

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Results that must be bit-identical are so for one thread count only, also after a stage that sets it.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from diffusers import UNet2DConditionModel
from hypothesis import settings

import mlflow_schema  # noqa: F401 - before any store is made
from services.seaweedfs import SeaweedFS
from shared import made_once, served
from sidlsg.cli import app as cli

torch.set_num_threads(1)

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)  # `make test-all` asks for it
settings.load_profile("quick")


def _stack(_context: int = 1) -> list[inspect.FrameInfo]:
    """`inspect.stack` without lines of source: KFP asks for it often, and under pytest that is seconds a compile."""
    frames = traceback.walk_stack(sys._getframe(1))
    return [
        inspect.FrameInfo(frame, frame.f_code.co_filename, line, frame.f_code.co_name, None, None)
        for frame, line in frames
    ]


inspect.stack = _stack


@pytest.fixture
def make_unet() -> Callable[..., UNet2DConditionModel]:
    """A real UNet of a few thousand parameters on 4×4 latents, text width 8, weights by seed.

    Its middle attends to the text; with `attention="CrossAttn"` all blocks do.
    """

    def make(seed: int = 0, dtype: torch.dtype = torch.float64, attention: str = "") -> UNet2DConditionModel:
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=4,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8,),
            layers_per_block=1,
            down_block_types=(f"{attention}DownBlock2D",),
            up_block_types=(f"{attention}UpBlock2D",),
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        return unet.to(dtype).eval()

    return make


@pytest.fixture(scope="session")
def assets() -> Path:
    """The bundled assets: the tiny teacher, its judge and the prompts."""
    return Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny teachers of other families, without training, by the family's name."""

    def make(name: str, folder: Path) -> None:
        from sidlsg.bundled.assets import family_named, write_teacher
        from sidlsg.bundled.tiny_families import NEW
        from sidlsg.teacher.pipeline import load_pipeline
        from tiny_sana import new_sana

        vae = load_pipeline(Path(__file__).parents[1] / "assets" / "tiny-sd").vae
        torch.manual_seed(0)
        made = new_sana() if name == "sana" else NEW[name](vae)
        write_teacher(family_named(name), made, folder)

    return lambda name: made_once(tmp_path_factory, f"tiny-{name}", partial(make, name))


@pytest.fixture(scope="session")
def of_family(assets: Path, untrained: Callable[[str], Path]) -> Callable[[str], Path]:
    """Folders of tiny teachers by family: the bundled one's, and `untrained` ones."""
    return lambda name: assets / "tiny-sd" if name == "sd" else untrained(name)


@pytest.fixture(scope="session")
def one_level(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled teacher's configurations with one of its UNet's two levels: half of the modules to simulate."""
    folder = tmp_path_factory.mktemp("one") / "tiny-sd"
    shutil.copytree(assets / "tiny-sd", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    file = folder / "unet" / "config.json"
    config = json.loads(file.read_text())
    lists = ("block_out_channels", "down_block_types", "up_block_types")
    file.write_text(json.dumps(config | {name: config[name][-1:] for name in lists}))
    return folder


@pytest.fixture(scope="session")
def tiny_student(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real student of the tiny teacher, after two short iterations."""
    from sidlsg.distil.recipes import recipe_with_changes
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.prompts.rules import CurationRules
    from sidlsg.stages.curate import curate
    from sidlsg.stages.distil import distil

    def make(folder: Path) -> None:
        held_out = read_held_out(assets / "prompts" / "held_out.txt")
        curate(assets / "prompts" / "prompts.parquet", folder / "prompts", CurationRules(), held_out)
        short = {"iterations": 2, "batch": 4, "micro_batch": 4, "grids": 1, "log_every": 1}
        recipe = recipe_with_changes("tiny", json.dumps(short | {"evaluate_every": 0, "on_alarm": "off"}))
        distil(folder / "prompts", assets / "tiny-sd", folder / "student", recipe, 0, folder / "checkpoints", print)
        torch.set_num_threads(1)

    return made_once(tmp_path_factory, "student", make) / "student"


@pytest.fixture
def sidlsg(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process, in a folder of its own: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sidlsg", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The path of every file that is hashed in this process from now on, each time that it is."""
    paths: list[str] = []
    digest = hashlib.file_digest

    def file_digest(file: BinaryIO, name: str) -> Any:
        paths.append(file.name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    return paths


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A running SeaweedFS; a test that kills one makes its own."""
    with served(
        tmp_path_factory, "s3", lambda folder: SeaweedFS(folder).start(), lambda folder: [SeaweedFS(folder)]
    ) as folder:
        yield SeaweedFS(folder)


@pytest.fixture
def s3_place(s3_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`s3://` and a new, empty bucket, removed afterwards, which the environment gives access to for this test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.client_environment().items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.make_bucket()
    yield f"s3://{bucket}"
    s3_server.drop_bucket(bucket)
