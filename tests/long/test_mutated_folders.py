"""Folders of tensors and of work under way, fed mutations: one line and an exit code, never a traceback.

Where a record names a file by digest, half of the mutations change the digest too: the file is then another one, as a
newer version or a stranger may have written it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutations import command, copied, documents, few_prompts, mutated, put, spoil, spoil_tensors, stopped
from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.judge import load_judge
from sidlsg.distil.checkpoint import MANIFEST, Manifest
from sidlsg.distil.run_identity import RunIdentity
from sidlsg.evaluate.weights import check_judge
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import EmbeddingSet, PromptSet, Student

few = settings(mutated, max_examples=40)
"""Each loads networks."""
SHORT = ["iterations=2", "batch=2", "micro_batch=2", "grids=1", "log_every=1", "evaluate_every=0", 'on_alarm="off"']


@pytest.fixture(scope="module")
def base(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, a prompt set, its text states, a run's checkpoints and a student."""
    folder = tmp_path_factory.mktemp("mutated")
    shutil.copytree(assets / "tiny-sd", folder / "teacher")
    few_prompts(folder)
    places = ["--prompts", str(folder / "prompts"), "--teacher", str(folder / "teacher")]
    assert command("encode", *places, "--output", str(folder / "states"), "--dtype", "float32") == (0, "")
    assert distil(folder, folder / "student") == (0, "")
    return folder


def distil(folder: Path, output: Path, *more: str) -> tuple[int, str]:
    """Train two iterations, or what is left of them, from what is in a folder."""
    places = [f"--{name}={folder / name}" for name in ("prompts", "teacher", "checkpoints")]
    values = [f"--set={each}" for each in SHORT]
    return command("distil", *places, f"--embeddings={folder / 'states'}", f"--output={output}", *values, *more)


def redigest(record: Path, path: Path, name: str) -> None:
    """Make a record name a file as it is now."""
    values = json.loads(record.read_text())

    def renewed(value: Any) -> Any:
        if isinstance(value, dict):
            if value.get("path") == name:
                return value | {"sha256": sha256_file(path)}
            return {key: renewed(each) for key, each in value.items()}
        return [renewed(each) for each in value] if isinstance(value, list) else value

    put(record, json.dumps(renewed(values)))


@contextlib.contextmanager
def beside(base: Path, name: str) -> Iterator[Path]:
    """A folder like `base`, of which one part is a copy."""
    with copied(base / name) as part:
        for other in base.iterdir():
            if other.name not in (name, part.parent.name):
                (part.parent / other.name).symlink_to(other)
        part.rename(part.parent / name)
        yield part.parent


def some_file(data: st.DataObject, folder: Path, suffix: str = ".safetensors") -> str:
    return str(data.draw(st.sampled_from(sorted(str(p.relative_to(folder)) for p in folder.rglob(f"*{suffix}")))))


@few
@given(data=st.data())
def test_text_states(data: st.DataObject, base: Path) -> None:
    with beside(base, "states") as folder, mock.patch("sidlsg.stages.distil.train", stopped_after_reading):
        states = folder / "states"
        if data.draw(st.booleans()):
            spoil(data, states / EmbeddingSet.FILE, json.loads((states / EmbeddingSet.FILE).read_text()))
        else:
            name = some_file(data, states)
            spoil_tensors(data, states / name)
            if data.draw(st.booleans()) and (states / name).is_file():
                redigest(states / EmbeddingSet.FILE, states / name, name)
        distil(folder, folder / "out")


def stopped_after_reading(*given: Any) -> None:
    """Stands for the training, which first reads text states."""
    run = given[2]
    run.encode(range(run.prompt_count), [False] * run.prompt_count)
    stopped()


@few
@given(data=st.data())
def test_a_teachers_weights(data: st.DataObject, base: Path) -> None:
    with beside(base, "teacher") as folder, mock.patch("sidlsg.stages.distil.train", stopped):
        spoil_tensors(data, folder / "teacher" / some_file(data, folder / "teacher"))
        distil(folder, folder / "out")


@few
@given(data=st.data())
def test_a_students_weights(data: st.DataObject, base: Path) -> None:
    with beside(base, "student") as folder, mock.patch("sidlsg.distil.student.generation.generate_latents", stopped):
        student = folder / "student"
        name = some_file(data, student)
        spoil_tensors(data, student / name)
        if data.draw(st.booleans()) and (student / name).is_file():
            redigest(student / Student.FILE, student / name, name)
        command("generate", str(student), "a circle", "--output", str(folder / "images"))


@mutated
@given(data=st.data())
def test_a_judge(data: st.DataObject, assets: Path, base: Path) -> None:
    """Its header is looked at before a run, and all of it where it is used."""
    with copied(assets / "judge", base) as folder:
        path = folder / "judge.safetensors"
        spoil_tensors(data, path)
        for read in (check_judge, partial(load_judge, domain=SHAPES)):
            with contextlib.suppress(InputError):
                read(path)


@few
@given(data=st.data())
def test_prompts_in_parquet(data: st.DataObject, base: Path) -> None:
    with beside(base, "prompts") as folder:
        prompts = folder / "prompts"
        name = some_file(data, prompts, ".parquet")
        spoil_parquet(data, prompts / name)
        if data.draw(st.booleans()) and (prompts / name).is_file():
            redigest(prompts / PromptSet.FILE, prompts / name, name)
        with mock.patch("sidlsg.teacher.embeddings.write_embeddings", stopped):
            places = [f"--prompts={prompts}", f"--teacher={folder / 'teacher'}", f"--output={folder / 'out'}"]
            command("encode", *places, "--dtype", "float32")
        if data.draw(st.booleans()):
            distil(folder, folder / "out2")


def spoil_parquet(data: st.DataObject, path: Path) -> None:
    """Change a parquet file: a column, or its bytes."""
    content = path.read_bytes()
    match data.draw(st.sampled_from(["column"] * 3 + ["bytes"] * 3 + ["half", "empty", "removed", "folder"])):
        case "column":
            table = pq.read_table(path)
            name = data.draw(st.sampled_from(table.column_names))
            place = table.column_names.index(name)
            others: Sequence[Any] = [
                pa.nulls(len(table)), pa.array([1.5] * len(table)), pa.array([["a"]] * len(table)),
                pa.array(["y" * 100_000] * len(table)), pa.array([b"\xff\xfe"] * len(table)), None,
            ]  # fmt: skip
            column = data.draw(st.sampled_from(others))
            rest = table.remove_column(place)
            rest = rest if column is None else rest.add_column(place, name, column)
            path.unlink()
            pq.write_table(data.draw(st.sampled_from([rest, rest.slice(0, 1), rest.slice(0, 0)])), path)
        case "bytes":
            start = data.draw(st.integers(0, len(content) - 1))
            put(path, content[:start] + data.draw(st.binary(min_size=1, max_size=8)) + content[start + 1 :])
        case "half":
            put(path, content[: len(content) // 2])
        case "empty":
            put(path, b"")
        case _:
            path.unlink()


@few
@given(data=st.data())
def test_checkpoints(data: st.DataObject, base: Path) -> None:
    """A run goes on from them or starts anew: it ends with a student, or says in a line why not."""
    with beside(base, "checkpoints") as folder, mock.patch("sidlsg.stages.distil._write", stopped):
        newest = sorted((folder / "checkpoints").glob("0*"))[-1]
        good = Manifest.from_json((newest / MANIFEST).read_text())
        what = data.draw(st.sampled_from(["file"] * 3 + ["manifest", "counters", "run"]))
        name, values = some_file(data, newest), dict(vars(good))
        if what == "file":
            spoil_tensors(data, newest / name)
            if (newest / name).is_file():
                values["files"] = good.files | {name: sha256_file(newest / name)}
        elif what == "manifest":
            spoil(data, newest / MANIFEST, json.loads((newest / MANIFEST).read_text()))
        elif what == "counters":
            values["counters"] = json.loads(data.draw(documents(good.counters)))
        else:
            values["run"] = RunIdentity(json.loads(data.draw(documents(good.run.parts))))
        if what != "manifest" and data.draw(st.sampled_from([True, True, False])):
            put(newest / MANIFEST, Manifest(**values).to_json())
        distil(folder, folder / "out", *(["--accept-changes"] if data.draw(st.booleans()) else []))


def test_what_is_not_mutated_is_read_to_its_end(base: Path, tmp_path: Path) -> None:
    """Else the tests above would only meet mistakes of their own."""
    for name in ("states", "teacher", "prompts", "checkpoints"):
        with beside(base, name) as folder:
            assert distil(folder, tmp_path / name) == (0, "")
            assert Student.load(tmp_path / name).iterations == 2
    assert command("generate", str(base / "student"), "a circle", "--output", str(tmp_path / "images")) == (0, "")
