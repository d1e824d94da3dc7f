"""A release's images go into profiles, and nothing else changes there."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from sidlsg.cli import app as cli
from sidlsg.kubeflow.profile_file import read_images, read_profile, with_images
from sidlsg.runtime.errors import InputError

PROFILES = sorted((Path(__file__).parents[3] / "infra" / "profiles").glob("*.toml"))
NAMES = ("curate", "evaluate", "mlflow", "serve", "train", "trigger")
IMAGES = {name: f"ghcr.io/me/sidlsg-{name}@sha256:{format(number, 'x') * 64}" for number, name in enumerate(NAMES, 10)}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    file = tmp_path / "images.json"
    file.write_text(json.dumps(IMAGES))
    return file


def test_profiles_get_the_images_and_keep_the_rest(
    tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(PROFILES) == 3
    copies = [Path(shutil.copy(each, tmp_path)) for each in PROFILES]
    monkeypatch.setattr(sys, "argv", ["sidlsg", "profile-images", "--images", str(release), *map(str, copies)])
    cli.main()
    assert capsys.readouterr().out == "".join(f"{copy}: changed\n" for copy in copies)
    for original, copy in zip(PROFILES, copies, strict=True):
        profile = read_profile(copy)
        images = (profile.image("curate"), profile.image("distil"), profile.image("gate"))
        assert images == (IMAGES["curate"], IMAGES["train"], IMAGES["evaluate"])
        before, after = original.read_text().splitlines(), copy.read_text().splitlines()
        assert len(before) == len(after)
        different = [old for old, new in zip(before, after, strict=True) if old != new]
        assert [line.split(" = ")[0] for line in different] == ["curate", "train", "evaluate"]
    cli.main()
    assert capsys.readouterr().out == "".join(f"{copy}: unchanged\n" for copy in copies)


def test_a_comment_behind_an_image_and_other_tables_stay(tmp_path: Path, release: Path) -> None:
    old = f'  "r/x@sha256:{"0" * 64}"'
    text = f"# top\n[ images ] # by digest\ntrain ={old}  # CUDA 13\ncurate ={old}\r\nevaluate={old}\n"
    other = '[stages.curate]\ncpu = "2"\n[defaults.environment]\ntrain = "yes"\n'
    (tmp_path / "p.toml").write_bytes(f"{text}{other}".encode())
    changed = with_images(tmp_path / "p.toml", read_images(release))
    assert changed is not None
    assert f'train =  "{IMAGES["train"]}"  # CUDA 13\n' in changed
    assert changed.startswith("# top\n[ images ] # by digest\n")
    assert changed.endswith(other)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train": None}, "train is missing"),
        ({"trian": IMAGES["train"]}, r"trian is unknown \(did you mean 'train'\?\)"),
        ({"train": "ghcr.io/me/sidlsg-train:v1"}, "train is 'ghcr.io/me/sidlsg-train:v1'; .*give NAME@sha256:"),
        ({"mlflow": 7}, "mlflow is 7"),
    ],
)
def test_images_that_cannot_be_used_are_refused(release: Path, change: dict[str, object], told: str) -> None:
    given = {name: image for name, image in {**IMAGES, **change}.items() if image is not None}
    release.write_text(json.dumps(given))
    with pytest.raises(InputError, match=told):
        read_images(release)


@pytest.mark.parametrize(
    "text",
    [
        'images = { curate = "a", train = "b", evaluate = "c" }\n',
        '[images]\ncurate = "a"\ntrain = "b"\n',
        '[images]\ncurate = "a"\ntrain = "b"\nevaluate = """\nc"""\n',
    ],
)
def test_a_profile_that_is_written_otherwise_is_refused_and_stays(
    tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    good, odd = Path(shutil.copy(PROFILES[0], tmp_path)), tmp_path / "odd.toml"
    odd.write_text(text)
    monkeypatch.setattr(sys, "argv", ["sidlsg", "profile-images", "--images", str(release), str(good), str(odd)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "odd.toml: the images cannot be replaced; give each of curate, train, evaluate" in capsys.readouterr().err
    assert odd.read_text() == text
    assert good.read_text() == PROFILES[0].read_text()
