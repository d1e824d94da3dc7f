"""Which files of a downloaded repository are taken, with and without a variant, compared with diffusers' choice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from sidlsg.runtime.errors import InputError
from sidlsg.storage.uri import resolve, uri_digest
from sidlsg.teacher import format as module
from sidlsg.teacher.folder import check_folder, folder_digest, model_files
from sidlsg.teacher.format import DIFFUSERS, TeacherVariant, chosen, gather
from sidlsg.teacher.pipeline import check_optional, load_pipeline
from unit.teacher.downloaded import LOOSE, NETWORKS, make_downloaded

UNET = "unet/diffusion_pytorch_model.safetensors"
SHARDED = "diffusion_pytorch_model.safetensors.index.fp16.json"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    module._say_once.cache_clear()
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def made(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_downloaded(tmp_path_factory.mktemp("downloaded") / "sd15", assets / "tiny-sd")


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "sd15"))


def view(folder: Path, variant: str) -> Path:
    return resolve(f"{folder}@variant:{variant}", folder=DIFFUSERS)


def assert_same(ours: Path, theirs: Any) -> None:
    """Check that a folder's networks have the weights of a pipeline."""
    loaded = load_pipeline(ours)
    for name in NETWORKS:
        found, wanted = getattr(loaded, name).state_dict(), getattr(theirs, name).state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted), name


def stock(folder: Path, variant: str | None = None) -> Any:
    return StableDiffusionPipeline.from_pretrained(
        folder, variant=variant, use_safetensors=True, local_files_only=True, dtype=torch.float32
    )


def without(folder: Path, pattern: str) -> None:
    for path in sorted(folder.glob(pattern)):
        path.unlink()


def plain_only(folder: Path) -> None:
    """Remove all that a pipeline without variant does not read."""
    for name in LOOSE:
        (folder / name).unlink()
    for variant in ("fp16", "non_ema"):
        without(folder, f"*/*.{variant}.*")


def test_a_repository_is_taken_as_it_is(repository: Path, cache: Path, hashed: list[str]) -> None:
    assert resolve(str(repository), folder=DIFFUSERS) == repository
    check_folder(repository)
    check_optional(repository)
    assert_same(repository, stock(repository))
    digest = uri_digest(str(repository), DIFFUSERS)
    assert set(hashed) == {str(path) for path in model_files(repository)}
    plain_only(repository)
    assert folder_digest(repository) == digest
    assert not cache.exists()


def test_files_that_are_not_used_may_be_broken(repository: Path) -> None:
    unused = [*LOOSE, "unet/diffusion_pytorch_model.fp16.safetensors"]
    for name in (each for each in unused if each != "README.md"):
        (repository / name).unlink()
        (repository / name).symlink_to("/nowhere/at/all")
    check_folder(repository)
    check_folder(view(repository, "non_ema"))


@pytest.mark.parametrize("variant", ["fp16", "non_ema"])
def test_a_variant_is_what_diffusers_loads(made: Path, variant: str) -> None:
    folder = view(made, variant)
    check_optional(folder)
    assert_same(folder, stock(made, variant))
    # Any library finds it, without the option.
    assert_same(folder, stock(folder))
    assert TeacherVariant.load(folder).variant == variant


def test_a_variants_digest_is_that_of_its_files_under_standard_names(repository: Path) -> None:
    found = {variant: uri_digest(f"{repository}@variant:{variant}", DIFFUSERS) for variant in ("fp16", "non_ema")}
    assert len({*found.values(), folder_digest(repository)}) == 3
    for variant, digest in found.items():
        copy = Path(shutil.copytree(repository, repository.with_name(variant)))
        for path in copy.glob(f"*/*.{variant}.safetensors"):
            path.rename(path.with_name(path.name.replace(f".{variant}", "")))
        assert folder_digest(copy) == digest
        assert resolve(f"{repository}@variant:{variant}", digest, folder=DIFFUSERS) == view(repository, variant)
    with pytest.raises(InputError, match=f"@variant:fp16 has SHA-256 {found['fp16']}, but {found['non_ema']}"):
        resolve(f"{repository}@variant:fp16@sha256:{found['non_ema']}", folder=DIFFUSERS)


def test_networks_without_the_variant_are_named_once(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    view(made, "fp16")
    assert capsys.readouterr() == ("", "")
    for _ in range(2):
        view(made, "non_ema")
    kept = "vae, text_encoder, safety_checker"
    assert capsys.readouterr() == ("", f"note: {made} has no non_ema weights of {kept}; the standard ones are used\n")


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("fp61", r"weights of the variant 'fp61' \(did you mean 'fp16'\?\); it has: fp16, non_ema$"),
        ("ema", r"weights of the variant 'ema'.*; it has: fp16, non_ema$"),
        ("safetensors", "it has: fp16, non_ema$"),
        ("../x", "'../x' is no variant's name; give letters, digits and _"),
        ("", "'' is no variant's name"),
    ],
)
def test_an_unknown_variant_is_refused_with_those_that_are_there(made: Path, variant: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        view(made, variant)
    assert "\n" not in str(caught.value)


def test_a_folder_without_variants_says_so(assets: Path) -> None:
    with pytest.raises(InputError, match="it has no variants: omit it"):
        resolve("bundled:tiny-sd@variant:fp16", folder=DIFFUSERS)
    for folder in (DIFFUSERS, None):
        with pytest.raises(InputError, match="names a variant, which only a folder of a model has"):
            resolve(f"{assets / 'judge' / 'judge.safetensors'}@variant:fp16", folder=folder)


def test_a_variant_alone_is_taken_only_if_it_is_named(repository: Path) -> None:
    expected = uri_digest(f"{repository}@variant:fp16", DIFFUSERS)
    for name in (*NETWORKS, "safety_checker"):
        for path in (repository / name).glob("*model.safetensors"):
            path.unlink()
    without(repository, "*/*.bin")
    said = "unet has no standard weights, only variants: fp16, non_ema; choose one with --variant fp16, or in"
    with pytest.raises(InputError, match=said):
        check_folder(repository)
    assert uri_digest(f"{repository}@variant:fp16", DIFFUSERS) == expected
    with pytest.raises(InputError, match="vae has neither non_ema nor standard weights, only variants: fp16"):
        view(repository, "non_ema")


def test_a_variant_in_pickles_alone_is_refused(repository: Path) -> None:
    without(repository, "*/*.safetensors")
    with pytest.raises(InputError, match=r"unet/diffusion_pytorch_model.bin is a pickle, which can run code"):
        check_folder(repository)
    with pytest.raises(InputError, match="has no safetensors weights of the variant 'fp16'; it has no variants"):
        view(repository, "fp16")


def as_legacy(unet: Path) -> None:
    """Name shards as older versions of the library did."""
    text = (unet / SHARDED).read_text()
    for path in unet.glob("*.fp16-*"):
        older = path.name.replace(".fp16", "").replace(".safetensors", ".fp16.safetensors")
        text = text.replace(path.name, older)
        path.rename(unet / older)
    (unet / SHARDED).write_text(text)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_variant_in_shards_is_taken(repository: Path, tmp_path: Path, legacy: bool) -> None:
    pipeline = stock(repository, "fp16")
    expected = {name: getattr(pipeline, name).state_dict() for name in NETWORKS}
    without(repository, "*/*.fp16.safetensors")
    pipeline.unet.save_pretrained(repository / "unet", variant="fp16", max_shard_size="2MB")
    pipeline.text_encoder.save_pretrained(repository / "text_encoder", variant="fp16", max_shard_size="100KB")
    assert len(list((repository / "unet").glob("*.fp16-*"))) > 1
    assert len(list((repository / "text_encoder").glob("*.fp16-*"))) > 1
    if legacy:
        as_legacy(repository / "unet")
    folder = view(repository, "fp16")
    loaded = load_pipeline(folder)
    for name in ("unet", "text_encoder"):
        found = getattr(loaded, name).state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected[name].items())
        assert not (folder / name / UNET.partition("/")[2]).exists()
    # As the library writes these shards without a variant.
    pipeline.unet.save_pretrained(tmp_path / "written", max_shard_size="2MB")
    written = sorted((tmp_path / "written").glob("*.safetensors*"))
    assert [path.name for path in written] == sorted(path.name for path in (folder / "unet").glob("*.safetensors*"))
    for path in written:
        assert (folder / "unet" / path.name).read_bytes() == path.read_bytes()


def test_a_snapshot_of_the_hubs_cache_is_taken(repository: Path, tmp_path: Path) -> None:
    digests = {name: uri_digest(f"{repository}{name}", DIFFUSERS) for name in ("", "@variant:fp16")}
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(each for each in repository.rglob("*") if each.is_file())):
        link = snapshot / path.relative_to(repository)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / str(number))
        link.symlink_to(Path(*[".."] * (len(link.relative_to(snapshot).parts) + 1), "blobs", str(number)))
    for name, digest in digests.items():
        assert uri_digest(f"{snapshot}{name}", DIFFUSERS) == digest
    assert load_pipeline(view(snapshot, "fp16")).unet is not None
    lost = snapshot / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    lost.resolve().unlink()
    check_folder(snapshot)
    with pytest.raises(InputError, match=f"{lost} is a link to ../../../blobs/.*, where there is nothing; download"):
        view(snapshot, "fp16")
    copied = shutil.copytree(snapshot, tmp_path / "copied", symlinks=True)
    with pytest.raises(InputError, match=f"{copied}/.* is a link to .*, where there is nothing; .*--dereference"):
        check_folder(copied)


@pytest.mark.parametrize(
    "name", ["LICENSE.txt", "teacher_variant.json", "vae", "unet/diffusion_pytorch_model.fp16.safetensors"]
)
def test_a_variants_links_may_not_leave_the_folder(repository: Path, tmp_path: Path, name: str) -> None:
    link, elsewhere = repository / name, tmp_path / "elsewhere"
    if link.exists():
        link.rename(elsewhere)
    else:
        elsewhere.write_text("a secret")
    link.symlink_to(elsewhere)
    with pytest.raises(InputError, match=f"{name} is a link to {elsewhere}, outside of the folder"):
        view(repository, "fp16")


def test_git_without_its_large_files_is_named(repository: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3438167536\n"
    (repository / UNET).write_bytes(pointer)
    with pytest.raises(InputError, match=f"{repository / UNET} is git's pointer to a file.*; run `git lfs pull` there"):
        check_folder(repository)
    check_folder(view(repository, "fp16"))


def test_a_view_is_kept_until_the_folder_changes(repository: Path, cache: Path) -> None:
    first = view(repository, "fp16")
    assert first == view(repository, "fp16")
    assert first.is_relative_to(cache)
    assert [path.name for path in first.parent.parent.iterdir()] == [first.parent.name]
    before = folder_digest(first)
    (repository / "unet" / "config.json").write_text((repository / "unet" / "config.json").read_text() + "\n")
    assert view(repository, "fp16") == first
    assert folder_digest(first) != before
    (repository / "LICENSE.txt").write_text("be good")
    second = view(repository, "fp16")
    assert second != first
    assert (second / "LICENSE.txt").read_text() == "be good"
    assert first.is_dir()


def test_what_is_wrong_with_a_variant_is_named_by_the_users_folder(repository: Path, cache: Path) -> None:
    (repository / "vae" / "config.json").unlink()
    with pytest.raises(InputError, match=f"{repository}/vae has no config.json") as caught:
        view(repository, "fp16")
    assert str(cache) not in str(caught.value)


@pytest.mark.parametrize("variant", ["", "fp16"])
def test_only_the_files_in_use_are_copied(made: Path, tmp_path: Path, variant: str) -> None:
    names = [path.relative_to(made).as_posix() for path in sorted(made.rglob("*")) if path.is_file()]
    copied: list[str] = []

    def get(name: str, path: Path) -> None:
        copied.append(name)
        shutil.copyfile(made / name, path)

    gather("s3://models/sd15", names, variant, tmp_path / "got", get)
    assert not {*LOOSE} - {"README.md"} & {*copied}
    assert (UNET.replace(".safetensors", ".fp16.safetensors") in copied) is bool(variant)
    assert not [name for name in copied if "non_ema" in name or (variant and name == UNET)]
    uri = f"{made}@variant:{variant}" if variant else str(made)
    assert folder_digest(tmp_path / "got") == uri_digest(uri, DIFFUSERS)
    # A copy of a copy still says what it is.
    again = chosen("copy", [path.relative_to(tmp_path / "got").as_posix() for path in (tmp_path / "got").rglob("*")])
    assert (TeacherVariant.FILE in again) is bool(variant)


def test_an_index_of_shards_that_is_damaged_is_named(repository: Path) -> None:
    (repository / "unet" / SHARDED).write_text(json.dumps({"weight_map": [1]}))
    with pytest.raises(InputError, match=f"{repository}/unet/.*index.json has no weight_map of file names"):
        view(repository, "fp16")
