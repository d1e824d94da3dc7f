"""Mutations of files that commands read, and the check that a command answers them with one line and an exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sidlsg.cli import app as cli
from sidlsg.prompts.rules import CurationRules
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate

CODES = {0, 1, 2, 3, 4, 5, 75}
"""What docs/processes.md lists."""
REMOVED = object()
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 3, 257, 1 << 20, 10**30, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf,
    "", "x", "3", "nan", "\x1b[2J", "\u202e", "../..", "/dev/null", "a\nb", "y" * 5000,
    [], [1], [1, "a", None], [[[[]]]], ["x"] * 300, {}, {"a": None}, {"": {"": {}}}, REMOVED,
]  # fmt: skip
DEEP = {"list": "[" * 400 + "]" * 400, "object": '{"a":' * 5000 + "1" + "}" * 5000, "open": "[" * 100_000}
mutated = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def command(*arguments: str) -> tuple[int, str]:
    """Run a command in this process: its exit code and its error, checked to be as documented."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["sidlsg", *arguments]),
    ):
        try:
            cli.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
    assert code in CODES, (code, err.getvalue())
    if code:
        lines = err.getvalue().splitlines()
        assert len(lines) == 1, err.getvalue()
        assert lines[0].startswith("error: ")
        assert 20 < len(lines[0]) < 5000
    return code, err.getvalue()


def stopped(*_: object, **__: object) -> None:
    """Stands for what takes seconds once all has been read."""
    raise InputError("all that a mutation could spoil was read, and nothing is computed here")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be changed in a document."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def changed(value: Any, path: Sequence[Any], new: Any) -> Any:
    """A copy of a document with another value at a place, or without it."""
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    inner = changed(value[path[0]], path[1:], new)
    if inner is REMOVED:
        del copy[path[0]]
    else:
        copy[path[0]] = inner
    return copy


def toml(value: Any) -> str:
    """A value of TOML, which has no null."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(k)} = {toml(v)}' for k, v in value.items() if v is not None)}}}"
    if isinstance(value, list):
        return f"[{', '.join(toml(each) for each in value if each is not None)}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


def as_toml(value: Any) -> str:
    return "".join(f"{json.dumps(k)} = {toml(v)}\n" for k, v in value.items() if v is not None)


def put(path: Path, content: str | bytes) -> None:
    """Write a file anew: another folder may have the earlier one, too."""
    path.unlink()
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@st.composite
def documents(draw: st.DrawFn, value: dict[str, Any], dump: Callable[[Any], str] = json.dumps) -> str:
    """The text of a document with one or two places changed."""
    for _ in range(draw(st.integers(1, 2))):
        if found := list(places(value)):
            value = changed(value, draw(st.sampled_from(found)), draw(st.sampled_from(HOSTILE)))
    return dump(value)


def spoil(data: st.DataObject, path: Path, value: dict[str, Any], dump: Callable[[Any], str] = json.dumps) -> None:
    """Change a file: mostly its values, else all of it."""
    match data.draw(st.sampled_from(["values"] * 6 + ["removed", "half", "empty", "folder", "bytes", "deep", "other"])):
        case "values":
            put(path, data.draw(documents(value, dump)))
        case "removed":
            path.unlink()
        case "half":
            put(path, path.read_bytes()[: path.stat().st_size // 2])
        case "empty":
            put(path, b"")
        case "folder":
            path.unlink()
            path.mkdir()
        case "bytes":
            put(path, data.draw(st.binary(max_size=64)))
        case "deep":
            text = data.draw(st.sampled_from(list(DEEP.values())))
            put(path, text if dump is json.dumps else f"a = {text}")
        case "other":
            put(path, data.draw(st.sampled_from(["[]", "3", "null", '"a"', "NaN", "{}"])))


@contextlib.contextmanager
def copied(folder: Path, base: Path | None = None) -> Iterator[Path]:
    """A copy whose files are shared until they are written anew, and a place for output beside it."""
    with tempfile.TemporaryDirectory(dir=base or folder.parent) as scratch:
        yield Path(shutil.copytree(folder, Path(scratch) / "in", copy_function=os.link))


def few_prompts(folder: Path) -> None:
    """Make a prompt set of four prompts in `prompts`, from a text file that stays beside it."""
    numbers = ["three", "four", "five", "six"]
    (folder / "in.txt").write_text("".join(f"a painting of {n} boats on a lake in the evening\n" for n in numbers))
    score = dataclasses.replace(CurationRules().score, enabled=False)
    rules = dataclasses.replace(CurationRules(), score=score)
    curate([str(folder / "in.txt")], folder / "prompts", rules, ["something else"])


def _header(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


@st.composite
def _tensors(draw: st.DrawFn, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of which one is another, has gone, or has another name, or with one more."""
    name = draw(st.sampled_from(sorted(tensors)))
    tensor, wide = tensors[name], tensors[name].float()
    bad = wide.clone()
    bad.view(-1)[:1] = draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    others = [
        tensor.flatten(), tensor[:1], tensor[:0], tensor[None], tensor.flatten()[0], tensor.double(), tensor.bfloat16(),
        tensor.to(torch.uint8), wide * 1e30, torch.zeros_like(tensor),
    ]  # fmt: skip
    match draw(st.sampled_from(["other", "bad", "gone", "renamed", "more"])):
        case "other":
            return tensors | {name: draw(st.sampled_from(others)).clone()}
        case "bad":
            return tensors | {name: bad.to(tensor.dtype)}
        case "gone":
            return {each: value for each, value in tensors.items() if each != name}
        case "renamed":
            return {f"{each}.x" if each == name else each: value for each, value in tensors.items()}
    return tensors | {draw(st.sampled_from(["x", "\x1b[2J", "../a", name + ".lora_A.weight"])): tensor.clone()}


def spoil_tensors(data: st.DataObject, path: Path) -> None:
    """Change a safetensors file: its tensors, its header, or all of it."""
    match data.draw(st.sampled_from(["tensors"] * 5 + ["header"] * 3 + ["size", "half", "bytes", "removed", "folder"])):
        case "tensors":
            tensors = data.draw(_tensors(load_file(path)))
            path.unlink()
            save_file(tensors, path)
        case "header":
            header, content = _header(path)
            text = data.draw(documents(header)).encode()
            put(path, struct.pack("<Q", len(text)) + text + content)
        case "size":
            put(
                path,
                struct.pack("<Q", data.draw(st.sampled_from([0, 7, 2**31, 2**63, 2**64 - 1]))) + path.read_bytes()[8:],
            )
        case "half":
            put(path, path.read_bytes()[: path.stat().st_size // 2])
        case "bytes":
            put(path, data.draw(st.binary(max_size=64)))
        case "removed":
            path.unlink()
        case "folder":
            path.unlink()
            path.mkdir()
