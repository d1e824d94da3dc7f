"""Pictures to scores by the command line, with a small TorchScript network in the place of Inception's."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forked import Program
from sidlsg.evaluate.distances import random_groups
from sidlsg.evaluate.feature_files import load_features
from sidlsg.evaluate.fid import FeatureStatistics, frechet_distance
from sidlsg.evaluate.kid import kernel_distance
from sidlsg.evaluate.precision_recall import precision_recall
from sidlsg.evaluate.published import PROTOCOLS
from sidlsg.evaluate.published_suite import compare, load_references
from sidlsg.runtime.errors import InputError
from unit.evaluate.standin import save_stand_in

Run = Callable[..., subprocess.CompletedProcess[str]]
KID, PR = "kid/inception-poly3", "pr/inception-k3"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stand_in(tmp_path_factory.mktemp("network") / "inception.pt")


@pytest.fixture(scope="module")
def weights(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.toml"
    digest = hashlib.sha256(network.read_bytes()).hexdigest()
    path.write_text(f'[inception-2015-12-05]\nplace = "{network}"\nsha256 = "{digest}"\n')
    return path


@pytest.fixture
def run(sidlsg: Callable[..., tuple[int, str, str]]) -> Run:
    """Do a command in this process, for a new one takes longer than most of these commands."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = list(map(str, arguments))
        return subprocess.CompletedProcess(words, *sidlsg(*words))

    return run


def draw(folder: Path, count: int, seed: int, brightness: int = 0) -> Path:
    folder.mkdir()
    values = np.random.default_rng(seed)
    for i in range(count):
        pixels = values.integers(0, 156, (8, 12, 3)) + brightness
        Image.fromarray(pixels.astype(np.uint8)).resize((48, 32)).save(folder / f"{i:05d}.png")
    return folder


@pytest.mark.long
def test_a_folder_is_scored_against_another(run: Run, weights: Path, tmp_path: Path) -> None:
    """As a user goes: features of both, then scores; the numbers are the pure functions'."""
    sets = {"ours": draw(tmp_path / "ours", 1010, 0), "real": draw(tmp_path / "real", 1005, 1, brightness=30)}
    for name, folder in sets.items():
        output = tmp_path / f"{name}.safetensors"
        flags = ["--reference"] if name == "real" else []
        done = run("images", "features", folder, "--protocol", KID, "--weights", weights, "--output", output, *flags)
        assert done.returncode == 0, done.stderr
        assert not list(tmp_path.glob(".*.parts"))
    done = run(
        "images", "score", tmp_path / "ours.safetensors", "--reference", tmp_path / "real.safetensors",
        "--protocol", KID, "--protocol", PR, "--output", tmp_path / "scores",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = {score["name"]: score for score in json.loads((tmp_path / "scores" / "scores.json").read_text())["scores"]}
    ours, real = (load_features(tmp_path / f"{name}.safetensors").features for name in sets)
    assert ours.shape == (1010, 2048)
    assert scores["kid"]["value"] == pytest.approx(kernel_distance(ours, real, 0).mean, rel=1e-9)
    shares = precision_recall(ours, real)
    assert (scores["precision"]["value"], scores["recall"]["value"]) == (shares.precision, shares.recall)
    for name, score in scores.items():
        assert score["n"] == 1010
        assert score["interval"][0] <= score["value"] <= score["interval"][1]
        assert name in done.stdout
    # The Fréchet distance takes 30,000 pictures or nothing.
    done = run(
        "images", "score", tmp_path / "ours.safetensors", "--reference", tmp_path / "real.safetensors",
        "--protocol", "fid/coco2014-30k-clean",
    )  # fmt: skip
    assert done.returncode == 2
    assert "1,010 generated images given, and fid/coco2014-30k-clean takes 30,000; nothing is scored" in done.stderr


def test_skipped_files_are_reported_and_recorded(run: Run, weights: Path, tmp_path: Path) -> None:
    for name, seed in (("ours", 0), ("real", 1)):
        folder = draw(tmp_path / name, 6, seed)
        if name == "ours":
            draw(folder / "more", 1, 2)
            Image.new("RGB", (9, 9)).save(folder / "00006.webp")
        output = tmp_path / f"{name}.safetensors"
        done = run("images", "features", folder, "--protocol", PR, "--weights", weights, "--output", output)
        assert done.returncode == 0, done.stderr
        message = "passed over 1 in folders of it: more/00000.png; 1 of other formats: 00006.webp"
        assert (message in done.stdout) == (name == "ours")
    done = run(
        "images", "score", tmp_path / "ours.safetensors", "--reference", tmp_path / "real.safetensors",
        "--protocol", PR, "--output", tmp_path / "scores",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert message in done.stdout
    assert json.loads((tmp_path / "scores" / "scores.json").read_text())["passed_over"] == message


@pytest.mark.long
def test_a_killed_extraction_resumes_with_the_same_bits(run: Run, weights: Path, tmp_path: Path) -> None:
    folder = draw(tmp_path / "ours", 1600, 0)
    arguments = ["images", "features", folder, "--protocol", KID, "--weights", weights, "--output"]
    assert run(*arguments, tmp_path / "whole.safetensors").returncode == 0
    child = Program([*map(str, arguments), str(tmp_path / "killed.safetensors")])
    try:
        part = tmp_path / ".killed.safetensors.parts" / "000001.safetensors"
        until = time.monotonic() + 240
        while not part.is_file():
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.safetensors").exists()
    assert run(*arguments, tmp_path / "killed.safetensors").returncode == 0
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not part.exists()


@pytest.fixture
def few(weights: Path, tmp_path: Path) -> Callable[[Path], list[object]]:
    def arguments(folder: Path) -> list[object]:
        output = tmp_path / "out.safetensors"
        return ["images", "features", folder, "--protocol", KID, "--weights", weights, "--output", output]

    return arguments


def refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in said:
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_pictures_are_named_and_nothing_is_written(
    run: Run, few: Callable[[Path], list[object]], tmp_path: Path
) -> None:
    folder = draw(tmp_path / "ours", 3, 0)
    good = (folder / "00001.png").read_bytes()
    (folder / "00001.png").write_bytes(good[: len(good) // 2])
    refused(run(*few(folder)), "00001.png cannot be read")
    Image.new("L", (9, 9)).save(folder / "00001.png")
    refused(run(*few(folder)), "00001.png is grey")
    Image.new("CMYK", (9, 9)).save(folder / "00001.jpg")
    (folder / "00001.png").unlink()
    refused(run(*few(folder)), "00001.jpg has the mode CMYK")
    refused(run(*few(tmp_path / "none")), "there is no folder")
    (tmp_path / "out.safetensors").mkdir()
    refused(run(*few(folder)), "out.safetensors is a folder")
    (tmp_path / "out.safetensors").rmdir()
    assert not (tmp_path / "out.safetensors").exists()
    done = run("images", "features", folder, "--protocol", "fid/coco2014-30k-clean", "--output", tmp_path / "o")
    refused(done, "holds 3 images, and the protocol takes 30,000")


def test_bad_weights_are_named(run: Run, network: Path, tmp_path: Path) -> None:
    folder = draw(tmp_path / "ours", 2, 0)
    toml = tmp_path / "w.toml"

    def features() -> subprocess.CompletedProcess[str]:
        return run("images", "features", folder, "--protocol", KID, "--weights", toml, "--output", tmp_path / "o")

    def named(place: object, sha256: str) -> None:
        toml.write_text(f'[inception-2015-12-05]\nplace = "{place}"\nsha256 = "{sha256}"\n')

    refused(run("images", "features", folder, "--protocol", KID, "--output", tmp_path / "o"), "is missing: ")
    refused(features(), "w.toml cannot be read")
    toml.write_text("place = ")
    refused(features(), "is not TOML")
    toml.write_text('[inception-2015]\nplace = "a"\n')
    refused(features(), "names 'inception-2015' (did you mean 'inception-2015-12-05'?)")
    named(network, "")
    refused(features(), "`sidlsg digest")
    named(network, "0" * 64)
    refused(features(), "has SHA-256", "but 0000")
    # A digest is required here, so that the message must not say to leave it out.
    assert "give the digest of this content, or the URI of one that has the digest" in features().stderr
    named(tmp_path, "0" * 64)
    refused(features(), f"[inception-2015-12-05] in weights.toml: {tmp_path} is a folder; give the URI of one file")
    named(tmp_path / "none.pt", "0" * 64)
    refused(features(), "there is nothing at")
    other = tmp_path / "other.pt"
    torch.save({"a": torch.zeros(2)}, other)
    named(other, hashlib.sha256(other.read_bytes()).hexdigest())
    refused(features(), "is not a TorchScript network")
    refused(
        run("images", "features", folder, "--protocol", "kid/inception", "--output", "o"), "is unknown (did you mean"
    )


def test_a_pickle_with_code_in_it_is_not_run(run: Run, tmp_path: Path) -> None:
    trap, file, toml = tmp_path / "trap", tmp_path / "hostile.pt", tmp_path / "w.toml"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(trap),))

    file.write_bytes(pickle.dumps(Hostile()))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    toml.write_text(f'[inception-2015-12-05]\nplace = "{file}"\nsha256 = "{sha256}"\n')
    folder = draw(tmp_path / "ours", 2, 0)
    done = run("images", "features", folder, "--protocol", KID, "--weights", toml, "--output", tmp_path / "o")
    refused(done, "is not a TorchScript network")
    assert not trap.exists()


def test_the_list_says_what_is_there(run: Run, weights: Path) -> None:
    without, with_ = run("protocols"), run("protocols", "--weights", weights)
    for done in (without, with_):
        assert done.returncode == 0, done.stderr
        assert all(name in done.stdout for name in PROTOCOLS)
    assert "  here: " not in without.stdout
    assert "lacks captions, inception-2015-12-05, reference-clean" in without.stdout
    assert "  here: " in with_.stdout
    assert "lacks captions, reference-clean" in with_.stdout


@pytest.mark.long
def test_the_whole_way_of_a_frechet_distance(
    run: Run, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer pictures than the protocol's, so not by the command: parts merged, and by mu and sigma."""
    # Each of an interval's distances takes seconds where there are fewer pictures than dimensions.
    monkeypatch.setattr("sidlsg.evaluate.distances.random_groups", lambda count: random_groups(count, 2))
    for name, count, seed in (("ours", 60, 0), ("one", 30, 1), ("two", 35, 2)):
        folder = draw(tmp_path / name, count, seed)
        output = tmp_path / f"{name}.safetensors"
        done = run("images", "features", folder, "--protocol", KID, "--weights", weights, "--output", output)
        assert done.returncode == 0, done.stderr
    parts = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    done = run("images", "statistics", *parts, "--output", tmp_path / "real.safetensors")
    assert done.returncode == 0, done.stderr
    assert "statistics of 65 images" in done.stdout
    run("images", "statistics", *parts[::-1], "--output", tmp_path / "again.safetensors")
    ours = load_features(tmp_path / "ours.safetensors")
    merged, again = (load_references(tmp_path / f"{name}.safetensors") for name in ("real", "again"))
    assert merged.digest == again.digest
    real = torch.cat([load_features(part).features for part in parts])
    np.savez(tmp_path / "real.npz", mu=real.double().numpy().mean(0), sigma=np.cov(real.double().numpy().T))
    expected = frechet_distance(ours.statistics, FeatureStatistics(2048).update(real))
    protocol = replace(PROTOCOLS["fid/coco2014-30k-clean"], images=60, references=65)
    with pytest.raises(InputError, match="compares with reference images"):
        compare(ours, None, protocol)
    for reference in (merged, again, load_references(tmp_path / "real.npz")):
        (score,) = compare(ours, reference, protocol)
        assert score.value == pytest.approx(expected, rel=1e-6)
        assert score.interval is not None
    refused(run("images", "statistics", *parts, parts[0], "--output", tmp_path / "o"), "give each part once")
    done = run(
        "images", "score", tmp_path / "ours.safetensors", "--reference", tmp_path / "real.safetensors", "--protocol", PR
    )
    refused(done, "has statistics alone, and pr/inception-k3 needs each image's features")
    done = run(
        "images",
        "score",
        tmp_path / "ours.safetensors",
        "--reference",
        parts[0],
        "--protocol",
        "fid/coco2014-30k-sid-train",
    )
    refused(done, "are of inception-2015-12-05/clean, and fid/coco2014-30k-sid-train takes inception-2015-12-05/inside")
