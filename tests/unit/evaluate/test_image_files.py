"""Folders of images that are what they should be, and many that are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sidlsg.evaluate.image_files import image_files, in_caption_order, passed_over, read_rgb
from sidlsg.runtime.errors import InputError


def new_image(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (16, 12, 3)).astype(np.uint8)
    return Image.fromarray(values).convert(mode)


def test_images_are_sorted_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.jpeg"):
        new_image().save(tmp_path / name, format="PNG" if name.endswith("png") else "JPEG")
    (tmp_path / "record.json").write_text("{}")
    (tmp_path / "more.png").mkdir()
    assert [path.name for path in image_files(tmp_path, 3)] == ["a.JPG", "b.png", "c.jpeg"]


def test_skipped_files_are_counted_and_named_with_the_reason(tmp_path: Path) -> None:
    for name in ("0.png", "1.JPG", "2.jfif", "3.jpe"):
        new_image().save(tmp_path / name, format="PNG" if name.endswith("png") else "JPEG")
    assert passed_over(tmp_path) == ""
    for name in ("4.webp", "5.tif", "6.bmp", "7.gif", "._0.png", "captions.txt", "more/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in image_files(tmp_path)] == ["0.png", "1.JPG", "2.jfif", "3.jpe"]
    skipped = (
        "passed over 1 hidden: ._0.png; 1 in folders of it: more/0.png; 5 of other formats: 4.webp, 5.tif, 6.bmp, …"
    )
    assert passed_over(tmp_path) == skipped
    with pytest.raises(InputError, match=r"holds 4 images \(passed over 1 hidden: .*\), and the protocol takes 9"):
        image_files(tmp_path, 9)


@pytest.mark.parametrize(
    "names",
    [
        ["1.png", "2.png", "10.png"],
        ["0.jpg", "1.png", "2.jpg"],
        ["sd15_9.png", "sd15_010.png", "sd15_11.png"],
        ["COCO_0042.png", "COCO_0099.png", "COCO_0100.png"],
        ["a2.png", "b1.png", "b10.png"],
        ["a.png", "b.png", "c.png"],
    ],
)
def test_images_pair_with_captions_by_number(names: list[str]) -> None:
    files = [Path(name) for name in sorted(names)]
    assert [file.name for file in in_caption_order(files, ["one", "two", "three"])] == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.png", "10.png"], "2 images and 3 captions are given; "),
        (["1.png", "2.png", "3.png", "4.png"], "4 images and 3 captions are given; "),
        (["1.png", "01.png", "2.png"], "01.png and 1.png have the same number; "),
        (["x7.jpg", "x7.png", "x9.png"], "x7.jpg and x7.png have the same number; "),
        (["1.png", "2.png", "cover.png"], "cover.png has no number, and other images have; "),
    ],
)
def test_images_that_do_not_fit_their_captions_are_refused_with_the_first_pairs(names: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        in_caption_order([Path(name) for name in names], ["one", "two", "three"])
    assert str(caught.value).startswith(message)
    assert "these would pair: " in str(caught.value)
    assert '.png with "two"' in str(caught.value)


def test_another_count_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        image_files(tmp_path)
    new_image().save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"holds 1 images, and the protocol takes 30,000; nothing is scored"):
        image_files(tmp_path, 30_000)
    with pytest.raises(InputError, match="there is no folder"):
        image_files(tmp_path / "none")


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_rgb_is_read_as_it_is(tmp_path: Path, format_: str) -> None:
    new_image().save(tmp_path / "a", format=format_)
    with Image.open(tmp_path / "a") as image:
        assert np.array_equal(np.asarray(read_rgb(tmp_path / "a")), np.asarray(image))


def test_grey_is_refused_unless_the_protocol_takes_it(tmp_path: Path) -> None:
    new_image("L").save(tmp_path / "grey.jpg")
    with pytest.raises(InputError, match=r"is grey \(mode L\)"):
        read_rgb(tmp_path / "grey.jpg")
    found = np.asarray(read_rgb(tmp_path / "grey.jpg", allow_grey=True))
    assert found.shape == (16, 12, 3)
    assert (found[..., 0] == found[..., 1]).all()


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("RGBA", "png"), ("P", "png")])
def test_other_colours_are_refused(tmp_path: Path, mode: str, suffix: str) -> None:
    new_image(mode).save(tmp_path / f"a.{suffix}")
    for allow_grey in (False, True):
        with pytest.raises(InputError, match=f"has the mode {mode}, not 8-bit RGB"):
            read_rgb(tmp_path / f"a.{suffix}", allow_grey)


def test_damaged_images_are_named(tmp_path: Path) -> None:
    big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8))
    for suffix in ("png", "jpg"):
        path = tmp_path / f"cut.{suffix}"
        big.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match=rf"cut.{suffix} cannot be read"):
            read_rgb(path)
    (tmp_path / "text.png").write_text("no image")
    for other in ("EPS", "BMP", "TIFF", "WEBP", "GIF"):
        new_image().save(tmp_path / "other.png", format=other)
        with pytest.raises(InputError, match=r"other.png cannot be read \(not a PNG or JPEG\)"):
            read_rgb(tmp_path / "other.png")
    with pytest.raises(InputError, match=r"text.png cannot be read \(not a PNG or JPEG\)"):
        read_rgb(tmp_path / "text.png")
    with pytest.raises(InputError, match="no such image"):
        read_rgb(tmp_path / "none.png")


def test_an_image_larger_than_memory_allows_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    Image.new("RGB", (4097, 4096)).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size < 1_000_000
    with pytest.raises(InputError, match=r"large.png has 4,097 × 4,096 pixels; allowed: 16,777,216 in all"):
        read_rgb(tmp_path / "large.png")
