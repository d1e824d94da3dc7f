"""Real images on S3, on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.stages.real_images import encode_real_images
from sidlsg.storage.real_image_set import RealImageSet
from sidlsg.storage.uri import open_store
from unit.real_images.conftest import COUNT, write_source


@pytest.fixture
def teacher(assets: Path) -> Path:
    return assets / "tiny-sd"


def encoded(uri: str, teacher: Path, output: Path) -> tuple[RealImageSet, dict[str, bytes]]:
    record = encode_real_images(uri, teacher, [], output, [].append)
    files = (path for path in output.rglob("*.safetensors"))
    return record, {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("form", ["sidecars", "metadata", "list", "parquet", "tars"])
def test_a_prefix_gives_what_the_folder_gives(form: str, s3_place: str, teacher: Path, tmp_path: Path) -> None:
    folder = write_source(tmp_path / "source", form)
    store = open_store(f"{s3_place}/images")
    for path in folder.iterdir():
        store.write(path.name, path.read_bytes())
    there, theirs = encoded(f"{s3_place}/images", teacher, tmp_path / "of s3")
    here, ours = encoded(str(folder), teacher, tmp_path / "of disk")
    assert theirs == ours
    assert (there.count, there.source_sha256) == (here.count, here.source_sha256)
    assert there.count == COUNT
    assert there.source == f"{s3_place}/images"


def test_an_object_is_a_source_and_a_changed_one_has_another_state(
    s3_place: str, teacher: Path, tmp_path: Path
) -> None:
    folder, store = write_source(tmp_path / "source", "tars"), open_store(f"{s3_place}/images")
    for name, count in (("00000.tar", 4), ("00001.tar", COUNT - 4)):
        store.write("x.tar", (folder / name).read_bytes())
        record, _ = encoded(f"{s3_place}/images/x.tar", teacher, tmp_path / name)
        assert record.count == count


@pytest.mark.parametrize("key", ["nothing", "cut.tar"])
def test_nothing_is_written_for_what_cannot_be_read(key: str, s3_place: str, teacher: Path, tmp_path: Path) -> None:
    folder = write_source(tmp_path / "source", "tars")
    open_store(f"{s3_place}/images").write("cut.tar", (folder / "00000.tar").read_bytes()[:1500])
    with pytest.raises(InputError) as caught:
        encoded(f"{s3_place}/images/{key}", teacher, tmp_path / "output")
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
