"""The stage as a whole: the same set of every form, what leaves it, what is refused, and that a killed one resumes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forked import Program
from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.real_images import write_real_images
from sidlsg.bundled.shapes.captions import held_out_captions, training_captions
from sidlsg.bundled.shapes.drawing import draw
from sidlsg.prompts.shards import read_prompts
from sidlsg.real_images.pixels import square
from sidlsg.runtime.errors import InputError
from sidlsg.stages.real_images import encode_real_images
from sidlsg.storage.real_image_set import RealImageSet
from sidlsg.storage.records import EmbeddingSet, PromptSet
from sidlsg.teacher.images import decode, pixels_of
from sidlsg.teacher.latents import KEY, LatentReader, encode_images, vae_digest
from sidlsg.teacher.pipeline import load_pipeline
from unit.real_images.conftest import CAPTIONS, COUNT, PNGS, png, write_source

HELD_OUT = [caption.text for caption in held_out_captions()]


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def made(source: Path, teacher: Path, output: Path, said: list[str] | None = None, **options: object) -> RealImageSet:
    report = [].append if said is None else said.append
    return encode_real_images(str(source), teacher, HELD_OUT, output, report, **options)  # type: ignore[arg-type]


def test_the_set_holds_what_the_images_are(teacher_folder: Path, tmp_path: Path) -> None:
    record = made(write_source(tmp_path / "source", "tars"), teacher_folder, tmp_path / "out", licence="CC0-1.0")
    assert record == RealImageSet.load(tmp_path / "out")
    record.verify(tmp_path / "out")
    assert (record.count, record.shape, record.resolution, record.licence) == (COUNT, (4, 8, 8), 32, "CC0-1.0")
    captions = PromptSet.load(tmp_path / "out" / "captions")
    assert (captions.digest, captions.source_sha256) == (record.captions_sha256, record.source_sha256)
    assert read_prompts(tmp_path / "out" / "captions") == CAPTIONS
    assert EmbeddingSet.load(tmp_path / "out" / "embeddings").prompts_sha256 == captions.digest
    assert not list((tmp_path / "out").rglob(".*"))
    # What the VAE makes of the latents again is what was encoded.
    vae = load_pipeline(teacher_folder).vae
    latents = load_file(tmp_path / "out" / record.shards[0].path)[KEY]
    error = np.abs(decode(vae, latents)[0].astype(int) - square(PNGS[0], 32).astype(int)).mean()
    assert error < 12


def test_latents_have_the_spread_that_teachers_are_trained_on(assets: Path) -> None:
    vae, cpu = load_pipeline(assets / "tiny-sd").vae, torch.device("cpu")
    images = draw(training_captions()[:128], 0, range(128))
    with torch.no_grad():
        posterior = vae.encode(pixels_of(images)).latent_dist
    latents = encode_images(vae, images, 0, cpu).float() / vae.config.scaling_factor
    expected = posterior.mean.var((0, 2, 3)) + posterior.var.mean((0, 2, 3))
    assert torch.allclose(latents.var((0, 2, 3)), expected, rtol=0.1)
    assert posterior.mean.var((0, 2, 3)).min() < 0.1 * expected.min()  # of means, one channel would have almost none
    assert torch.equal(encode_images(vae, images[32:64], 32, cpu), encode_images(vae, images, 0, cpu)[32:64])


def test_every_form_of_the_source_gives_the_same_set(teacher_folder: Path, tmp_path: Path) -> None:
    found = {}
    for form in ("sidecars", "metadata", "list", "parquet", "tars"):
        record = made(write_source(tmp_path / form, form), teacher_folder, tmp_path / "out" / form)
        found[form] = (record.content_sha256, record.source_sha256)
    assert len(set(found.values())) == 1, found


def test_what_cannot_be_used_leaves_the_set_and_is_reported_once_a_reason(teacher_folder: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", "sidecars")
    (source / "0.png").write_bytes(PNGS[0][:100])
    (source / "1.png").write_bytes(b"")
    (source / "2.txt").unlink()
    (source / "3.txt").write_text(f"“{HELD_OUT[0].upper()}”!")
    (source / "4.png").write_bytes(png(np.zeros((31, 64, 3), np.uint8)))
    said: list[str] = []
    record = made(source, teacher_folder, tmp_path / "out", said)
    assert read_prompts(tmp_path / "out" / "captions") == [CAPTIONS[5]]
    assert {step.name: step.rows_in - step.rows_out for step in record.funnel} == {
        "read": 0,
        "image": 2,
        "caption": 1,
        "held_out": 1,
        "held_out_near": 0,
        "size": 1,
    }
    lines = [line for line in said if line.startswith("left out")]
    assert [line.partition(" (")[0] for line in lines] == [
        "left out 2 of 6 images, which are missing or cannot be decoded",
        "left out 1 of 6 images, which have no caption",
        "left out 1 of 6 images, which have a held-out caption",
        "left out 1 of 6 images, which are smaller than the teacher's resolution",
    ]
    assert "4.png: 64 × 31 pixels" in lines[3]


def test_a_caption_near_a_held_out_one_leaves_the_set(teacher_folder: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", "sidecars")
    (source / "3.txt").write_text(f"{HELD_OUT[0]} xx")
    record = made(source, teacher_folder, tmp_path / "out")
    assert record.count == COUNT - 1
    assert [step.rows_in - step.rows_out for step in record.funnel if step.name == "held_out_near"] == [1]


@pytest.mark.parametrize(
    ("form", "spoil", "message"),
    [
        ("sidecars", "captions", r"no image that can be used, of 6: 6 have no caption \(the first: .*0\.png\)"),
        ("sidecars", "images", r"no image that can be used, of 6: 6 are missing or cannot be decoded \(the first"),
        ("tars", "half", r"00001\.tar cannot be read as a tar: it is truncated"),
        ("list", "line", r"captions\.txt has 5 captions, but there are 6 images"),
        ("metadata", "all", r"has nothing, and so no real images"),
    ],
)
def test_nothing_is_left_of_a_set_that_cannot_be_made(
    form: str, spoil: str, message: str, teacher_folder: Path, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", form)
    for path in sorted(source.iterdir()):
        if spoil == "captions" and path.suffix == ".txt":
            path.unlink()
        elif spoil == "images" and path.suffix == ".png":
            path.write_bytes(b"GIF")
        elif spoil == "half" and path.name == "00001.tar":
            path.write_bytes(path.read_bytes()[:700])
        elif spoil == "line" and path.suffix == ".txt":
            path.write_text("\n".join(CAPTIONS[:5]))
        elif spoil == "all":
            path.unlink()
    with pytest.raises(InputError, match=message):
        made(source, teacher_folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [source]


def test_an_empty_tar_is_refused(teacher_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(bytes(10240))
    with pytest.raises(InputError, match=r"no image that can be used, of 0; give images with captions"):
        made(tmp_path / "x.tar", teacher_folder, tmp_path / "out")


def test_a_folder_with_something_else_is_not_replaced(teacher_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(InputError, match="out"):
        made(write_source(tmp_path / "source", "tars"), teacher_folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


KILLED = """
import sys
from pathlib import Path
from sidlsg.real_images import encoding
encoding.BLOCK = 64
from sidlsg.teacher import embeddings, shards
embeddings.BLOCK = shards.BLOCK = 64
from sidlsg.stages.real_images import encode_real_images
source, teacher, output = sys.argv[1:]
encode_real_images(source, Path(teacher), [], Path(output), print)
"""


@pytest.mark.parametrize("form", ["images", "images.tar"])
def test_a_killed_encoding_resumes_at_its_block_and_gives_the_same_set(
    form: str, teacher_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / form
    write_real_images(SHAPES, source, 300, 0)
    arguments = [str(source), str(teacher_folder)]
    whole = Program([*arguments, str(tmp_path / "whole")], code=KILLED)
    assert whole.wait() == 0
    process = Program([*arguments, str(tmp_path / "out")], code=KILLED)
    try:
        while not list(tmp_path.glob(".out.*.work/progress.json")):
            assert process.poll() is None
            time.sleep(0.002)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (work,) = tmp_path.glob(".out.*.work")
    done = json.loads((work / "progress.json").read_text())["count"] if (work / "progress.json").exists() else 300
    kept = (work / "shards" / "00000.safetensors").stat().st_ino
    (work / "shards" / ".00004.safetensors.k1x9").write_bytes(b"half a shard")
    with (tmp_path / "said").open("w") as said:
        assert Program([*arguments, str(tmp_path / "out")], code=KILLED, stdout=said).wait() == 0
    if done < 300:
        assert f"continues after {done:,} images, in file " in (tmp_path / "said").read_text()
    assert (tmp_path / "out" / "shards" / "00000.safetensors").stat().st_ino == kept
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_latents_are_read_by_index_and_another_vae_or_damage_is_refused(teacher_folder: Path, tmp_path: Path) -> None:
    record = made(write_source(tmp_path / "source", "tars"), teacher_folder, tmp_path / "out")
    latents = load_file(tmp_path / "out" / record.shards[0].path)[KEY]
    vae = vae_digest(teacher_folder)
    reader = LatentReader(tmp_path / "out", vae, (4, 8, 8), "cpu")
    assert torch.equal(reader([3, 0, 3]), latents[[3, 0, 3]].float())
    with pytest.raises(InputError, match="run `sidlsg images encode` again with this teacher"):
        LatentReader(tmp_path / "out", "0" * 64, (4, 8, 8), "cpu")
    with pytest.raises(InputError, match=r"but the teacher's are \(4, 16, 16\)"):
        LatentReader(tmp_path / "out", vae, (4, 16, 16), "cpu")
    path = tmp_path / "out" / record.shards[0].path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="it was changed or damaged; run `sidlsg images encode` again"):
        LatentReader(tmp_path / "out", vae, (4, 8, 8), "cpu")([0])
