"""Inputs of a run that lie on S3: pinned by digest, fetched once, checked always."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forked import run_all
from services.seaweedfs import SeaweedFS
from sidlsg.cli.app import app
from sidlsg.prompts.prompt_set import MANIFEST
from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.files import sha256_file
from sidlsg.storage.uri import HELD_OUT, open_store, resolve, split_s3_uri, uri_digest
from sidlsg.teacher.format import DIFFUSERS, TeacherVariant
from unit.teacher.downloaded import make_downloaded

PROCESSES = 4
CLOSED = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def models(s3_place: str, s3_server: SeaweedFS, assets: Path) -> str:
    """A prefix that holds the bundled teacher, things that lie beside teachers, and the judge."""
    store = open_store(f"{s3_place}/models")
    for file in sorted((assets / "tiny-sd").rglob("*")):
        if file.is_file():
            store.put(f"tiny-sd/{file.relative_to(assets / 'tiny-sd').as_posix()}", file, sha256_file(file))
    store.write("tiny-sd/v1-5-pruned.safetensors", b"a single file of the same model")
    store.write("tiny-sd/unet/diffusion_pytorch_model.bin", b"a pickle")
    store.write("tiny-sd/logs/a/b.txt", b"")
    store.write("tiny-sd-2/model_index.json", b"{}")
    store.put("judge.safetensors", assets / "judge" / "judge.safetensors", judge_digest(assets))
    bucket, _ = split_s3_uri(s3_place)
    s3_server.client().put_object(Bucket=bucket, Key="models/tiny-sd/.git/config.json", Body=b"{}")
    return f"{s3_place}/models"


def judge_digest(assets: Path) -> str:
    return sha256_file(assets / "judge" / "judge.safetensors")


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_teachers_folder_is_fetched_without_what_lies_beside(
    models: str, slash: str, assets: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, expected = f"{models}/tiny-sd{slash}", uri_digest(str(assets / "tiny-sd"), DIFFUSERS)
    assert uri_digest(place, DIFFUSERS) == expected
    path = resolve(place, expected, folder=DIFFUSERS)
    assert path == resolve(f"{place}@sha256:{expected}", folder=DIFFUSERS)
    assert path.is_relative_to(cache)
    assert {p.suffix for p in path.rglob("*") if p.is_file()} <= {".safetensors", ".json", ".txt", ".md"}
    # The card comes too: a student inherits its terms.
    assert (path / "README.md").read_bytes() == (assets / "tiny-sd" / "README.md").read_bytes()
    assert not (path / "v1-5-pruned.safetensors").exists()
    assert not (path / "logs").exists()
    assert not (path / ".git").exists()
    # What is there is not asked for again: with no server, it is found.
    monkeypatch.setenv("AWS_ENDPOINT_URL", CLOSED)
    assert resolve(place, expected, folder=DIFFUSERS) == path
    assert uri_digest(f"{place}@sha256:{expected}", DIFFUSERS) == expected


def test_only_the_files_of_a_variant_are_fetched(
    s3_place: str, s3_server: SeaweedFS, assets: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, (bucket, prefix) = make_downloaded(tmp_path / "sd15", assets / "tiny-sd"), split_s3_uri(s3_place)
    client = s3_server.client()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        key = "/".join(part for part in (prefix, "sd15", file.relative_to(folder).as_posix()) if part)
        client.upload_file(str(file), bucket, key)
    place, expected = f"{s3_place}/sd15@variant:fp16", uri_digest(f"{folder}@variant:fp16", DIFFUSERS)
    assert uri_digest(place, DIFFUSERS) == expected
    path = resolve(f"{place}@sha256:{expected}", folder=DIFFUSERS)
    assert path == cache / "sha256" / expected / "sd15-fp16"
    assert TeacherVariant.load(path).variant == "fp16"
    assert not [each for each in path.rglob("*") if "non_ema" in each.name or each.suffix in (".bin", ".ckpt")]
    assert sum(each.stat().st_size for each in path.rglob("*.safetensors")) == sum(
        each.stat().st_size for each in folder.glob("*/*.fp16.safetensors")
    )
    with pytest.raises(InputError, match=f"{s3_place}/sd15 has no safetensors weights of the variant 'bf16'"):
        uri_digest(f"{s3_place}/sd15@variant:bf16", DIFFUSERS)
    with pytest.raises(InputError, match="names a variant, which only a folder of a model has"):
        uri_digest(f"{s3_place}/sd15/v1-5-pruned.safetensors@variant:fp16", DIFFUSERS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", CLOSED)
    assert resolve(place, expected, folder=DIFFUSERS) == path


def test_a_file_is_fetched_and_a_damaged_copy_replaced(models: str, assets: Path) -> None:
    place, expected = f"{models}/judge.safetensors", judge_digest(assets)
    path = resolve(place, expected, folder=DIFFUSERS)
    assert path.name == "judge.safetensors"
    assert sha256_file(path) == expected
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(bytes([path.read_bytes()[-1] ^ 1]))
    assert sha256_file(path) != expected
    assert resolve(place, expected, folder=DIFFUSERS) == path
    assert sha256_file(path) == expected


def test_without_a_digest_a_run_refuses_and_says_how_to_get_it(models: str, cache: Path, assets: Path) -> None:
    place = f"{models}/judge.safetensors"
    with pytest.raises(InputError, match="comes without a digest") as caught:
        resolve(place, folder=DIFFUSERS)
    assert not cache.exists()
    assert f"`sidlsg digest {place}`" in str(caught.value)
    printed = CliRunner().invoke(app, ["digest", place])
    assert printed.output == f"{judge_digest(assets)}\n"
    assert resolve(f"{place}@sha256:{printed.output.strip()}", folder=DIFFUSERS).is_file()


def test_what_was_replaced_on_s3_is_refused(models: str, assets: Path, cache: Path) -> None:
    place, expected = f"{models}/judge.safetensors", judge_digest(assets)
    open_store(models).write("judge.safetensors", b"another")
    with pytest.raises(ContentError, match=rf"{place} has SHA-256 \w+, but {expected} is expected"):
        resolve(place, expected, folder=DIFFUSERS)
    assert not list(cache.rglob("judge.safetensors"))


@pytest.mark.parametrize(
    ("inner", "told"),
    [("none", "there is nothing at"), ("judge.safetensors/", "there is nothing at"), ("tiny-sd-2", "has no unet")],
)
def test_what_is_no_input_is_named_by_its_place(models: str, inner: str, told: str, cache: Path) -> None:
    with pytest.raises(InputError, match=told) as caught:
        uri_digest(f"{models}/{inner}", DIFFUSERS)
    assert f"{models}/{inner.rstrip('/')}" in str(caught.value)
    assert str(cache) not in str(caught.value)
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_processes_fetch_the_same_teacher_at_the_same_time(models: str, assets: Path, cache: Path) -> None:
    place, expected = f"{models}/tiny-sd", uri_digest(str(assets / "tiny-sd"), DIFFUSERS)
    code = "import sys; from sidlsg.storage.uri import resolve; from sidlsg.teacher.format import DIFFUSERS\n"
    code += "print(resolve(*sys.argv[1:], folder=DIFFUSERS))"
    processes = run_all([place, expected], [{}] * PROCESSES, 60, code=code)
    assert [process.returncode for process in processes] == [0] * PROCESSES
    printed = {process.stdout.strip() for process in processes}
    assert printed == {str(cache / "sha256" / expected / "tiny-sd")}
    assert not [path for path in (cache / "partial").iterdir() if path.suffix != ".lock"]


def test_a_stage_takes_a_pinned_place(s3_place: str, assets: Path, cache: Path, tmp_path: Path) -> None:
    table = assets / "prompts" / "prompts.parquet"
    store = open_store(s3_place)
    store.put("prompts.parquet", table, sha256_file(table))
    source = f"{s3_place}/prompts.parquet@sha256:{sha256_file(table)}"
    for name, place in (("remote", source), ("local", str(table))):
        options = ["--output", str(tmp_path / name), "--source", place, "--held-out", HELD_OUT]
        assert CliRunner().invoke(app, ["curate", *options]).exit_code == 0
    made = {path.relative_to(tmp_path / "local") for path in (tmp_path / "local").rglob("*") if path.is_file()}
    assert made
    for path in made - {Path(MANIFEST)}:
        assert (tmp_path / "remote" / path).read_bytes() == (tmp_path / "local" / path).read_bytes()
    remote, local = (json.loads((tmp_path / name / MANIFEST).read_text()) for name in ("remote", "local"))
    # Only where the file lay differs.
    assert local["inputs"][0].pop("place") == str(table)
    assert Path(remote["inputs"][0].pop("place")).is_relative_to(cache)
    assert remote == local
