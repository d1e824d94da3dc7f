from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidlsg.real_images.examples import read_examples
from sidlsg.real_images.source import find_source
from sidlsg.runtime.errors import InputError
from unit.real_images.conftest import CAPTIONS, COUNT, PNGS, write_source, write_tar


def test_every_form_gives_the_same_images_and_captions_in_order(source: Path) -> None:
    found = list(read_examples(find_source(str(source))))
    assert [each.image for each in found] == PNGS
    assert [each.caption for each in found] == CAPTIONS


def test_reading_resumes_at_every_position(source: Path) -> None:
    files = find_source(str(source))
    found = list(read_examples(files))
    for number, each in enumerate(found, 1):
        assert list(read_examples(files, each.after)) == found[number:]


def test_one_file_is_a_source(tmp_path: Path) -> None:
    for form, name, count in (("tars", "00000.tar", 4), ("parquet", "a.parquet", 4)):
        folder = write_source(tmp_path / form, form)
        assert len(list(read_examples(find_source(str(folder / name))))) == count


def test_the_state_changes_with_a_file(source: Path) -> None:
    before = find_source(str(source)).state
    assert find_source(str(source)).state == before
    file = sorted(source.iterdir())[0]
    file.write_bytes(file.read_bytes() + b"\n")
    assert find_source(str(source)).state != before


def test_a_nested_folder_with_its_own_table(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    write_source(folder / "one", "metadata")
    write_source(folder / "two", "metadata")
    found = list(read_examples(find_source(str(folder))))
    assert [each.caption for each in found] == 2 * CAPTIONS


def test_samples_without_image_or_caption_are_examples_without_them(tmp_path: Path) -> None:
    members = {"a.png": PNGS[0], "b.txt": b"a ring", "c.png": PNGS[1], "c.json": b"[1", "d.seg.png": PNGS[2]}
    found = list(read_examples(find_source(str(write_tar(tmp_path / "x.tar", members)))))
    assert [(each.image, each.caption) for each in found] == [
        (PNGS[0], None),
        (None, "a ring"),
        (PNGS[1], None),
        (PNGS[2], None),
    ]


def test_a_tar_cut_anywhere_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = write_source(tmp_path / "source", "tars") / "00001.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1].offset_data + 512  # where the marker of the end begins
    for keep in range(0, end + 512, 256):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"00001\.tar cannot be read as a tar: it is truncated or damaged"):
            list(read_examples(find_source(str(path.parent))))


def test_a_tar_with_a_damaged_header_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = write_source(tmp_path / "source", "tars") / "00001.tar"
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
    damaged = bytearray(path.read_bytes())
    damaged[second] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"00001\.tar cannot be read as a tar: it is truncated or damaged"):
        list(read_examples(find_source(str(path.parent))))


def test_a_damaged_parquet_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = write_source(tmp_path / "source", "parquet") / "a.parquet"
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a\.parquet cannot be read as parquet: it is truncated or damaged"):
        list(read_examples(find_source(str(path))))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b"x"]}, r"no column of captions, named one of text, caption, prompt; it has: image \(binary\)"),
        ({"text": ["x"]}, r"no column of bytes of images, named one of image, jpg, .*; it has: text \(string\)"),
        ({"image": [1], "text": ["x"]}, r"no column of bytes of images"),
    ],
)
def test_a_table_without_a_column_is_an_error(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=message):
        list(read_examples(find_source(str(tmp_path))))


def test_a_caption_list_of_another_length_is_an_error(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "source", "list")
    (folder / "captions.txt").write_text("one\ntwo\n")
    message = rf"captions\.txt has 2 captions, but there are {COUNT} images in .*; give one line an image"
    with pytest.raises(InputError, match=message):
        list(read_examples(find_source(str(folder))))


def test_a_table_that_names_absent_images_is_an_error(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "source", "metadata")
    (folder / "3.png").unlink()
    with pytest.raises(InputError, match=r"names 1 images that are not there, such as 3\.png"):
        list(read_examples(find_source(str(folder))))


@pytest.mark.parametrize(
    ("table", "message"),
    [("{not json", "cannot be read as a table"), (json.dumps({"text": "x"}), "has no column 'file_name'")],
)
def test_a_table_that_cannot_be_used_is_an_error(tmp_path: Path, table: str, message: str) -> None:
    folder = write_source(tmp_path / "source", "metadata")
    (folder / "metadata.jsonl").write_text(table)
    with pytest.raises(InputError, match=message):
        list(read_examples(find_source(str(folder))))


def test_two_kinds_of_captions_are_an_error(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "source", "metadata")
    (folder / "captions.txt").write_text("x\n" * COUNT)
    with pytest.raises(InputError, match=r"has captions in captions\.txt and metadata\.jsonl; keep one of them"):
        list(read_examples(find_source(str(folder))))


def test_a_source_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has nothing, and so no real images; give a folder of images"):
        find_source(str(tmp_path))
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(InputError, match=r"has only notes\.md, and so no real images"):
        find_source(str(tmp_path))
    with pytest.raises(InputError, match="there is nothing at"):
        find_source(str(tmp_path / "absent"))
    with pytest.raises(InputError, match="unknown scheme"):
        find_source("http://host/images")
