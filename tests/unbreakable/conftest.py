"""Short runs of the real loop on a small real network, at any place."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sidlsg.bundled.tiny_sd import new_scheduler, new_vae
from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.grids import GridSampler
from sidlsg.distil.loop import TrainingRun, train
from sidlsg.distil.recipes import Recipe
from sidlsg.distil.run_identity import RunIdentity
from sidlsg.distil.state import TrainingState
from sidlsg.teacher.schedule import NoiseSchedule

RECIPE = Recipe(
    name="test",
    scales={"kappa": 1.5},
    iterations=12,
    batch=2,
    micro_batch=2,
    lr=1e-4,
    fake_score_lr=1e-4,
    log_every=1,
    checkpoint_every=2,
    keep_checkpoints=2,
    grids=1,
)
UNCOND = torch.zeros(1, 3, 8)


def encode(indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Text states by index, without a text encoder."""
    rows = [
        UNCOND[0] if empty else torch.randn(3, 8, generator=torch.Generator().manual_seed(index))
        for index, empty in zip(indices, replaced, strict=True)
    ]
    return torch.stack(rows), UNCOND


class SmallRun:
    """One start of the run at a place; another start of the same continues it."""

    def __init__(self, make_unet: Callable[..., Any], place: str, observers: Sequence[Any] = ()) -> None:
        self.lines: list[str] = []
        self.state = TrainingState.start(make_unet(0, torch.float32), RECIPE.lr, RECIPE.fake_score_lr)
        self.checkpoints = Checkpoints(uri=place, run=RunIdentity({"lr": "1"}), report=self.lines.append)
        schedule = NoiseSchedule.from_scheduler(new_scheduler())
        drawer = GridSampler(
            folder=None if self.checkpoints.folder is None else self.checkpoints.folder / "grids",
            vae=new_vae(),
            schedule=schedule,
            encode=encode,
            prompt_count=2,
            latent_shape=(4, 4, 4),
            steps=FewSteps(),
            seed=0,
            at_once=16,
        )
        self.run = TrainingRun(
            teacher=self.state.frozen(make_unet(0, torch.float32)),
            schedule=schedule,
            latent_shape=(4, 4, 4),
            prompt_count=2,
            encode=encode,
            seed=0,
            checkpoints=self.checkpoints,
            report=self.lines.append,
            grids=drawer,
            observers=observers,
        )

    def train(self) -> dict[str, Tensor]:
        """Train to the end; every tensor of the state."""
        train(RECIPE, self.state, self.run)
        return {name: tensor.clone() for name, tensor in self.state.tensors().items()}

    def losses(self) -> list[tuple[float, float, float]]:
        """Of each row in the log."""
        return [(row["iteration"], row["fake_score_loss"], row["generator_loss"]) for row in self.state.log]


Start = Callable[..., SmallRun]
Same = Callable[[SmallRun, dict[str, Tensor]], None]


@pytest.fixture
def start(make_unet: Callable[..., Any]) -> Start:
    """Start the run at a place, perhaps with observers."""

    def make(place: Path | str, *observers: Any) -> SmallRun:
        return SmallRun(make_unet, str(place), observers)

    return make


@pytest.fixture(scope="session")
def whole() -> list[Any]:
    """Receives the uninterrupted run's result from the first test that asks for it."""
    return []


@pytest.fixture
def same(start: Start, whole: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Same:
    """Check that a run ended as the uninterrupted one, to the bit."""
    if not whole:
        run = start(tmp_path_factory.mktemp("whole"))
        whole.extend((run.train(), run.losses()))

    def check(run: SmallRun, tensors: dict[str, Tensor]) -> None:
        expected, losses = whole
        assert run.losses() == losses
        assert tensors.keys() == expected.keys()
        assert [name for name in expected if not torch.equal(expected[name], tensors[name])] == []

    return check


class At:
    """Does something at a row of the log, once every checkpoint that was begun before is done."""

    def __init__(self, iteration: int, action: Callable[[], object]) -> None:
        self.iteration = iteration
        self.action = action
        self.checkpoints: Checkpoints | None = None

    def iterated(self, images_seen: int) -> None: ...

    def logged(self, row: dict[str, float]) -> None:
        if row["iteration"] == self.iteration:
            if self.checkpoints is not None:
                self.checkpoints.wait()
            self.action()

    def sampled(self, images_seen: int, grid: object) -> None:
        pass

    def evaluated(self, row: dict[str, float]) -> None:
        pass


@pytest.fixture
def at() -> type[At]:
    """An observer that acts at an iteration."""
    return At


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small disk of its own, of the module's `SIZE` in bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.module.SIZE}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
