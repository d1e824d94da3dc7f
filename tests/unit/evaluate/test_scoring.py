"""One pass over drawn images: what is kept between runs, shared among processes, and refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sidlsg.evaluate import scoring as one_pass
from sidlsg.evaluate.metrics import FeatureMemory
from sidlsg.evaluate.scoring import Keeper, SamplingPass, measured
from sidlsg.evaluate.suite import Format, ImageSet
from sidlsg.runtime.distributed import World
from sidlsg.runtime.errors import InputError
from sidlsg.storage.store import FolderStore, Store
from sidlsg.storage.uri import open_store
from sidlsg.teacher.images import Images

SIDE = 9


@dataclass
class Drawer:
    """Draws an image of its seed and its prompt's length; counts, and may be killed at one."""

    dies_at: int = -1
    drawn: list[int] = field(default_factory=list)

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Images:
        if self.dies_at in seeds:
            raise KeyboardInterrupt
        self.drawn += list(seeds)
        values = [
            np.random.default_rng(seed).integers(0, 200, (SIDE, SIDE, 3)) + len(prompt)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return np.stack(values).astype(np.uint8)


@dataclass
class Means:
    """Mean of each channel."""

    name: str = "means"
    width: int = 3
    identity: str = "1"
    spoilt: bool = False

    def __call__(self, images: Images, prompts: Sequence[str]) -> torch.Tensor:
        assert len(images) == len(prompts)
        values = torch.from_numpy(images).float().mean((1, 2))
        if self.spoilt:
            values[1] = torch.nan
        return values


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "BLOCK", 4)


def drawn_set(count: int = 10, form: Format = "png") -> ImageSet:
    return ImageSet(name="set", prompts=tuple("x" * (i % 3) for i in range(count)), format=form)


@pytest.fixture
def parts(tmp_path: Path) -> FolderStore:
    return FolderStore(str(tmp_path / "parts"))


def how(
    draw: Drawer, parts: Store, identity: str = "a", keeper: Keeper | None = None, rank: int = 0, size: int = 1
) -> SamplingPass:
    return SamplingPass(
        draw=draw,
        identity=identity,
        label="test",
        parts=parts,
        folder="subject",
        world=World(rank=rank, size=size),
        keeper=keeper,
    )


def test_every_image_is_sampled_once_and_read_by_all_measures(parts: FolderStore) -> None:
    draw, drawn = Drawer(), drawn_set()
    found = measured(drawn, [Means(), Means(name="again")], how(draw, parts))
    assert draw.drawn == list(range(10))
    expected = torch.from_numpy(Drawer()(drawn.prompts, range(10))).float().mean((1, 2))
    assert torch.equal(found["means"], expected)
    assert torch.equal(found["again"], expected)


def test_an_evaluation_that_was_killed_samples_only_the_rest_again(parts: FolderStore) -> None:
    drawn = drawn_set()
    with pytest.raises(KeyboardInterrupt):
        measured(drawn, [Means()], how(Drawer(dies_at=9), parts))
    again = Drawer()
    found = measured(drawn, [Means()], how(again, parts))
    assert again.drawn == [8, 9]
    assert torch.equal(found["means"], measured(drawn, [Means()], how(Drawer(), parts))["means"])


@pytest.mark.parametrize("change", ["generator", "prompts", "network", "format", "version", "damage"])
def test_a_block_that_was_made_from_other_inputs_is_made_again(
    parts: FolderStore, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(drawn_set(), [Means()], how(Drawer(), parts))
    again, drawn, measure = Drawer(), drawn_set(), Means()
    if change == "prompts":
        drawn = ImageSet(name="set", prompts=(*drawn.prompts[:9], "another"))
    elif change == "network":
        measure = Means(identity="2")
    elif change == "format":
        drawn = drawn_set(form="jpeg")
    elif change == "version":
        monkeypatch.setitem(one_pass.NUMERICS, "sampling", "another")
    elif change == "damage":
        part = parts.folder / "subject" / "set" / "000001.safetensors"
        part.write_bytes(part.read_bytes()[:80])
    measured(drawn, [measure], how(again, parts, "b" if change == "generator" else "a"))
    assert again.drawn == {"prompts": [8, 9], "damage": [4, 5, 6, 7]}.get(change, list(range(10)))


def test_processes_take_turns_by_blocks(parts: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the others would bring is not there: each gives what it has.
    monkeypatch.setattr(FeatureMemory, "compute", lambda self: torch.cat(self.indices))
    shares = []
    for rank in range(4):
        draw = Drawer()
        measured(drawn_set(), [Means()], how(draw, parts, rank=rank, size=4))
        shares.append(draw.drawn)
    assert shares == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


def test_numbers_that_do_not_fit_are_refused(parts: FolderStore) -> None:
    with pytest.raises(InputError, match=r"numbers of shape \[4, 3\] for 4 images, not 2 each"):
        measured(drawn_set(), [Means(width=2)], how(Drawer(), parts))
    with pytest.raises(InputError, match="means gave NaN or infinity for the image of 'x'"):
        measured(drawn_set(), [Means(spoilt=True)], how(Drawer(), parts))
    assert parts.names() == []


def test_jpegs_loss_is_measured(parts: FolderStore) -> None:
    drawn = drawn_set(3, "jpeg")
    found = measured(drawn, [Means()], how(Drawer(), parts))
    images = Drawer()(drawn.prompts, range(3))
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG")
        files.append(np.asarray(Image.open(buffer), np.float32).mean((0, 1)))
    assert np.allclose(found["means"], files, atol=1e-4)
    assert not np.allclose(found["means"], images.mean((1, 2)), atol=1e-2)


def test_images_are_kept_as_files(parts: FolderStore, tmp_path: Path) -> None:
    drawn = drawn_set()
    with pytest.raises(KeyboardInterrupt):
        measured(drawn, [Means()], how(Drawer(dies_at=9), parts, keeper=Keeper(str(tmp_path / "kept"), "a, b c")))
    measured(drawn, [Means()], how(Drawer(), parts, keeper=Keeper(str(tmp_path / "kept"), "a, b c")))
    folder = tmp_path / "kept" / "a_b_c" / "set"
    assert sorted(path.name for path in folder.iterdir()) == [f"{i:05d}.png" for i in range(10)]
    images = Drawer()(drawn.prompts, range(10))
    for i, image in enumerate(images):
        assert np.array_equal(np.asarray(Image.open(folder / f"{i:05d}.png")), image)


def test_images_are_kept_on_s3_as_one_tar_a_block(tmp_path: Path, s3_place: str) -> None:
    drawn = drawn_set(form="jpeg")
    for name in ("one", "two"):
        clean = FolderStore(str(tmp_path / name))
        measured(drawn, [Means()], how(Drawer(), clean, keeper=Keeper(f"{s3_place}/kept/{name}", "subject")))
    store = open_store(f"{s3_place}/kept")
    assert store.names("one/") == [f"one/subject/set/{block:06d}.tar" for block in range(3)]
    with tarfile.open(fileobj=io.BytesIO(store.read("one/subject/set/000002.tar"))) as tar:
        assert tar.getnames() == ["00008.jpg", "00009.jpg"]
    # Equal images make equal bytes.
    for one, two in zip(store.names("one/"), store.names("two/"), strict=True):
        assert store.read(one) == store.read(two)


def test_parts_may_lie_on_s3(tmp_path: Path, s3_place: str) -> None:
    store = open_store(f"{s3_place}/parts")
    drawn = drawn_set()
    with pytest.raises(KeyboardInterrupt):
        measured(drawn, [Means()], how(Drawer(dies_at=9), store))
    again = Drawer()
    found = measured(drawn, [Means()], how(again, store))
    assert again.drawn == [8, 9]
    whole = measured(drawn, [Means()], how(Drawer(), FolderStore(str(tmp_path / "local"))))
    assert torch.equal(found["means"], whole["means"])
