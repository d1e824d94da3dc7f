import hashlib
import shutil
from pathlib import Path

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.storage import uri as places
from sidlsg.storage.uri import refuse_folder, resolve, uri_digest
from sidlsg.teacher.format import DIFFUSERS


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_teacher(folder: Path) -> str:
    """A copy of the bundled teacher, and its digest by the documented rule."""
    shutil.copytree(Path(__file__).parents[3] / "assets" / "tiny-sd", folder, dirs_exist_ok=True)
    # The index comes first, then the components in the order of the pipeline.
    paths = [folder / "model_index.json"]
    for component in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        paths += sorted((folder / component).iterdir())
    return sha256("".join(f"{path.relative_to(folder)}\0{sha256(path.read_bytes())}\n" for path in paths).encode())


def test_a_local_file_is_found_and_digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("a.txt") == resolve("~/a.txt") == tmp_path / "a.txt"
    assert uri_digest("a.txt") == sha256(b"abc")
    assert resolve("a.txt", sha256(b"abc")) == tmp_path / "a.txt"


def test_another_content_is_refused_with_both_digests(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc")
    with pytest.raises(InputError) as caught:
        resolve(str(tmp_path / "a.txt"), sha256(b"abd"))
    assert sha256(b"abc") in str(caught.value)
    assert sha256(b"abd") in str(caught.value)


def test_a_place_may_carry_its_digest(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc")
    place = f"{tmp_path}/a.txt@sha256:{sha256(b'abc')}"
    assert resolve(place) == resolve(place, sha256(b"abc")) == tmp_path / "a.txt"
    assert uri_digest(place) == sha256(b"abc")
    bundled = f"{places.JUDGE}@sha256:{uri_digest(places.JUDGE)}"
    assert resolve(bundled) == resolve(places.JUDGE)
    (tmp_path / "a.txt").write_bytes(b"abd")
    for attempt in (resolve, uri_digest):
        with pytest.raises(InputError, match=f"has SHA-256 {sha256(b'abd')}, but {sha256(b'abc')}"):
            attempt(place)
    with pytest.raises(InputError, match="is given with two digests"):
        resolve(place, sha256(b"abd"))


def test_a_folder_is_refused_where_a_file_is_needed(tmp_path: Path) -> None:
    for place in (str(tmp_path), f"{tmp_path}@sha256:{'0' * 64}"):
        with pytest.raises(InputError, match=f"^{tmp_path} is a folder; give the URI of one file: captions$"):
            refuse_folder(place, "captions")
    (tmp_path / "a.txt").write_text("a")
    for place in (str(tmp_path / "a.txt"), str(tmp_path / "none"), "s3://bucket/folder", places.TEACHER, ""):
        refuse_folder(place, "captions")


def test_a_digest_of_another_kind_is_refused_before_any_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="is not a SHA-256"):
        resolve("s3://data/teacher", "../../elsewhere")
    assert not (tmp_path / "cache").exists()


def test_a_teacher_is_digested_by_its_model_files(tmp_path: Path) -> None:
    expected = make_teacher(tmp_path / "teacher")
    (tmp_path / "teacher" / "README.md").write_text("does not count")
    assert uri_digest(str(tmp_path / "teacher"), DIFFUSERS) == expected
    (tmp_path / "teacher/vae/diffusion_pytorch_model.safetensors").write_bytes(b"other")
    assert uri_digest(str(tmp_path / "teacher"), DIFFUSERS) != expected


def test_a_teacher_without_a_unet_is_refused(tmp_path: Path) -> None:
    make_teacher(tmp_path)
    for file in (tmp_path / "unet").iterdir():
        file.unlink()
    (tmp_path / "unet").rmdir()
    with pytest.raises(InputError, match="has no unet"):
        uri_digest(str(tmp_path), DIFFUSERS)


@pytest.mark.parametrize("place", [places.PROMPTS, places.HELD_OUT, places.JUDGE])
def test_the_bundled_files_are_there(place: str) -> None:
    path = resolve(place)
    assert path.is_file()
    assert uri_digest(place) == sha256(path.read_bytes())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("bundled:nothing", "nothing bundled is named 'nothing'"),
        ("bundled:", "nothing bundled is named ''"),
        ("bundled:../pyproject.toml", "nothing bundled is named"),
        ("bundled:/etc/hostname", "nothing bundled is named"),
        ("s3://data/teacher", r"is on S3 and comes without a digest.* `sidlsg digest s3://data/teacher` prints it"),
        (f"s3://data@sha256:{'0' * 64}", "is a whole bucket"),
        (f"s3://data/@sha256:{'0' * 64}", "is a whole bucket"),
        (f"s3://@sha256:{'0' * 64}", "is a whole bucket"),
        ("s3://data/teacher@sha256:123", "ends in an invalid SHA-256"),
        ("https://example.invalid/a", "unknown scheme"),
        ("", "URI is empty"),
        ("/nowhere/at/all", "nothing at /nowhere/at/all"),
    ],
)
def test_what_is_not_there_is_refused(place: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve(place)
    assert "\n" not in str(caught.value)
