"""What can be known of CLIP's networks without open_clip: why it cannot be imported, and which files are refused."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sidlsg.evaluate.clip_networks import ClipCosine, PreferenceScore, load_clip, read_checkpoint
from sidlsg.runtime.errors import InputError

TENSORS = {"a": torch.arange(600.0), "b": torch.ones(2, 2, dtype=torch.float16)}


@pytest.mark.skipif(importlib.util.find_spec("open_clip") is not None, reason="open_clip is installed")
@pytest.mark.parametrize("make", [ClipCosine, PreferenceScore, lambda file: load_clip("ViT-H-14", file)])
def test_without_open_clip_the_extra_is_named(make: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pip install 'sidlsg\[eval-gpu\]' \(open_clip is not installed\)"):
        make(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    "failure",
    [
        "RuntimeError('operator torchvision::nms does not exist')",
        "OSError('libtorch_cuda.so: cannot open')",
        "ImportError('cannot import name _C')",
        "AttributeError('partially initialized module')",
        "RuntimeError()",
    ],
)
def test_a_torchvision_that_does_not_fit_is_reported(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open_clip.py").write_text(f"raise {failure}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    made_for = re.escape(f"torchvision must be the build for torch {torch.__version__}:")
    with pytest.raises(InputError, match=rf"cannot be imported \(.+\); {made_for}") as refusal:
        load_clip("ViT-H-14", tmp_path / "weights.pt")
    assert "\n" not in str(refusal.value)


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_tensors_are_read_from_each_kind_of_file(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "plain.bin")
    torch.save(OrderedDict(TENSORS), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(TENSORS, tmp_path / "safe.safetensors")
    torch.save({"epoch": 3, "state_dict": OrderedDict(TENSORS)}, tmp_path / "nested.pt")
    assert same(read_checkpoint(tmp_path / "plain.bin"))
    assert same(read_checkpoint(tmp_path / "old.pt"))
    assert same(read_checkpoint(tmp_path / "safe.safetensors"))
    assert same(read_checkpoint(tmp_path / "safe.safetensors", "state_dict"))
    assert same(read_checkpoint(tmp_path / "nested.pt", "state_dict"))


class Intruder:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("place", ["next to it", "inside", "whole"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path: Path, place: str, zipped: bool) -> None:
    mark, file = tmp_path / "ran", tmp_path / "hostile.pt"
    intruder = Intruder(mark)
    contents = {
        "next to it": {"state_dict": TENSORS, "more": intruder},
        "inside": {"state_dict": TENSORS | {"c": intruder}},
        "whole": intruder,
    }
    torch.save(contents[place], file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"hostile.pt holds more than tensors \(posix.system\)") as refusal:
        read_checkpoint(file, "state_dict")
    assert "nothing in it was run" in str(refusal.value) and "\n" not in str(refusal.value)
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists(), "the file does nothing, so the test says nothing"


def test_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / "bare.pt"
    file.write_bytes(pickle.dumps(Intruder(mark)))
    with pytest.raises(InputError, match=r"bare.pt is not a PyTorch checkpoint|holds more than tensors"):
        read_checkpoint(file)
    assert not mark.exists()


def test_more_than_tensors_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "loss": np.float64(1)}, tmp_path / "loss.pt")
    with pytest.raises(InputError, match=r"holds more than tensors \(numpy.*scalar\)"):
        read_checkpoint(tmp_path / "loss.pt", "state_dict")


@pytest.mark.parametrize(
    ("content", "nested", "message"),
    [
        ({"weights": TENSORS}, "state_dict", r"has no entry 'state_dict' but a dictionary of 1: 'weights' \(dict\);"),
        (TENSORS, "state_dict", r"a dictionary of 2: 'a' \(Tensor\), 'b' \(Tensor\);"),
        ([1, 2], "state_dict", "has no entry 'state_dict' but a list"),
        ({"state_dict": 3}, "state_dict", "'state_dict' in .*must be tensors by name, and is a int"),
        ({"state_dict": {}}, "state_dict", "must be tensors by name, and is a dictionary of 0"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, None, r"a dictionary of 4: 'a' \(int\), 'b' \(int\), 'c' \(int\), …;"),
        ({1: torch.ones(1)}, None, r"must be tensors by name, and is a dictionary of 1: 1 \(Tensor\)"),
        (torch.ones(3), None, "must be tensors by name, and is a Tensor"),
    ],
)
def test_other_contents_are_refused(content: Any, nested: str | None, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / "other.pt", nested)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>\n<p>404</p>", b"version https://git-lfs", bytes(99)])
def test_a_file_that_is_not_a_checkpoint_is_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"wrong{suffix}"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"is not a .*, or is damaged.*; get it again$") as refusal:
        read_checkpoint(file)
    assert "\n" not in str(refusal.value)


def test_missing_files_and_scripts_are_refused(tmp_path: Path) -> None:
    for name in ("gone.pt", "gone.safetensors"):
        with pytest.raises(InputError, match=rf"no such file: .*{name}"):
            read_checkpoint(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(InputError, match=r"script.pt is not a PyTorch checkpoint.*TorchScript") as refusal:
        read_checkpoint(tmp_path / "script.pt")
    # What torch advises would run what is in the file.
    assert "False" not in str(refusal.value)


def test_wherever_a_file_is_cut_or_changed_the_error_is_one_line(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "new.pt")
    torch.save(TENSORS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(TENSORS, tmp_path / "safe.safetensors")
    generator = np.random.default_rng(0)
    for name in ("new.pt", "old.pt", "safe.safetensors"):
        whole = (tmp_path / name).read_bytes()
        cuts = [whole[:end] for end in generator.integers(0, len(whole), 100)]
        changes = []
        # Where a checkpoint's numbers lie, a change is a number's; the file's structure is at both ends.
        for place in [*generator.integers(0, min(400, len(whole)), 100), *-generator.integers(1, 600, 100)]:
            changed = bytearray(whole)
            changed[place] ^= int(generator.integers(1, 256))
            changes.append(bytes(changed))
        for number, content in enumerate(cuts + changes):
            file = tmp_path / f"damaged-{name}"
            file.write_bytes(content)
            try:
                read_checkpoint(file)
            except InputError as error:
                assert "\n" not in str(error)
            else:
                assert number >= len(cuts), "a cut file was taken"
