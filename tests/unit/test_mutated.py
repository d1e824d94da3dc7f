"""Commands that read a folder or a file, fed mutations of good ones: one line and an exit code, never a traceback.

A mutation that does no harm may succeed. `make test` tries 25 of each kind, `make test-all` 200.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutations import (
    HOSTILE,
    REMOVED,
    as_toml,
    changed,
    command,
    copied,
    documents,
    few_prompts,
    mutated,
    places,
    put,
    spoil,
    stopped,
)
from sidlsg.distil.recipes import get_recipe
from sidlsg.prompts.rules import CurationRules
from sidlsg.storage.records import (
    FileRef,
    ModelVersion,
    PromptSet,
    Record,
    Score,
    Scorecard,
    Student,
    SubjectScores,
    Verdict,
    file_ref,
)

ASSETS = Path(__file__).parents[2] / "assets"


def dumped(record: Record) -> dict[str, Any]:
    return dict(json.loads(record.to_json()))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


@pytest.fixture(scope="module")
def teacher(base: Path) -> Path:
    """The bundled teacher."""
    return Path(shutil.copytree(ASSETS / "tiny-sd", base / "teacher"))


@pytest.fixture(scope="module")
def prompts(base: Path) -> Path:
    """A small prompt set with its manifest."""
    few_prompts(base)
    return base / "prompts"


@pytest.fixture(scope="module")
def student(teacher: Path, base: Path) -> Path:
    """A folder that is loaded like a student's: the teacher with a student's record."""
    folder = Path(shutil.copytree(teacher, base / "student"))
    recipe = get_recipe("tiny")
    (folder / "training_log.jsonl").write_text('{"images_seen": 4}\n')
    Student(
        recipe=recipe.name,
        recipe_values=recipe.values(),
        strategy=recipe.strategy,
        kappas=recipe.guidance.scales,
        teacher_sha256="1" * 64,
        prompts_sha256="2" * 64,
        package_sha256="3" * 64,
        seed=0,
        t_init=625,
        iterations=1,
        images_seen=4,
        nan_samples=0,
        seconds=1.0,
        hardware="CPU",
        model=tuple(file_ref(path, folder) for path in sorted(folder.rglob("*.safetensors"))),
        training_log=file_ref(folder / "training_log.jsonl", folder),
        grids=(),
    ).save(folder)
    return folder


def encode(prompts: Path, teacher: Path, output: Path) -> tuple[int, str]:
    """The stage that reads a teacher's folder and a prompt set's record, and here writes no states."""
    folders = ["--prompts", str(prompts), "--teacher", str(teacher), "--output", str(output)]
    return command("encode", *folders, "--budget-gb", "0")


CONFIGS = [
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
]


@mutated
@given(data=st.data())
def test_a_teachers_folder(data: st.DataObject, teacher: Path, prompts: Path) -> None:
    with copied(teacher) as folder:
        path = folder / data.draw(st.sampled_from(CONFIGS))
        spoil(data, path, json.loads(path.read_text()))
        output = folder.parent / "states"
        command(
            "encode", "--prompts", str(prompts), "--teacher", str(folder), "--output", str(output), "--budget-gb", "0"
        )


@mutated
@given(data=st.data())
def test_a_folder_that_is_estimated(data: st.DataObject, teacher: Path) -> None:
    with copied(teacher) as folder:
        path = folder / data.draw(st.sampled_from(["unet/config.json", "text_encoder/config.json"]))
        spoil(data, path, json.loads(path.read_text()))
        with mock.patch("sidlsg.distil.estimate.estimate.estimate", stopped):
            command("estimate", "--teacher", str(folder), "--gpu", "h100")


@mutated
@given(data=st.data())
def test_a_recipes_values(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(get_recipe("tiny").values())))
    value = data.draw(st.sampled_from([json.dumps(each) for each in HOSTILE if each is not REMOVED] + ["[" * 5000]))
    with mock.patch("sidlsg.distil.estimate.estimate.estimate", stopped):
        command("estimate", "--set", f"{name}={value}", "--gpu", "h100")


@mutated
@given(data=st.data())
def test_a_students_folder(data: st.DataObject, student: Path) -> None:
    with copied(student) as folder:
        path = folder / data.draw(st.sampled_from(["student.json", *CONFIGS]))
        spoil(data, path, json.loads(path.read_text()))
        with mock.patch("sidlsg.distil.student.generation.generate_latents", stopped):
            command("generate", str(folder), "a circle", "--output", str(folder.parent / "images"))


@mutated
@given(data=st.data())
def test_a_prompt_sets_record(data: st.DataObject, teacher: Path, prompts: Path) -> None:
    with copied(prompts) as folder:
        spoil(data, folder / PromptSet.FILE, dumped(PromptSet.load(prompts)))
        output = folder.parent / "states"
        command(
            "encode", "--prompts", str(folder), "--teacher", str(teacher), "--output", str(output), "--budget-gb", "0"
        )


@mutated
@given(data=st.data())
def test_a_prompt_set_that_is_explained(data: st.DataObject, prompts: Path, base: Path) -> None:
    (base / "held_out.txt").write_text("something else\n")
    with copied(prompts) as folder:
        names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
        path = folder / data.draw(st.sampled_from([*names, *[Path("manifest.json"), Path(PromptSet.FILE)] * 3]))
        values = json.loads(path.read_text()) if path.suffix == ".json" else {"a": 1}
        spoil(data, path, values)
        row = data.draw(st.sampled_from(["0", "1", "99", "in.txt:0", "in.txt:7", "x"]))
        command("curate", "--explain", row, "--output", str(folder), "--held-out", str(base / "held_out.txt"))


@mutated
@given(data=st.data())
def test_rules_of_curation(data: st.DataObject, base: Path) -> None:
    values = json.loads(json.dumps(dataclasses.asdict(CurationRules())))
    with tempfile.TemporaryDirectory(dir=base) as folder:
        path = Path(folder) / "rules.toml"
        path.write_text(as_toml(values))
        spoil(data, path, values, as_toml)
        command("curate", "--rules", str(path), "--print-rules")


GATE_RULES = {
    "floor": [{"score": "attributes", "limit": 0.9, "subject": "student 1 step"}],
    "required": [{"protocol": "coco-fid"}],
    "cost": [{"maximum": 10.0, "hourly_price": 2.5}],
    "approval": [{"people": ["ann"]}],
}


def records() -> dict[str, Record]:
    score = Score(name="fid", value=3.0, protocol="p", n=9, reference_digest="4" * 64, higher_is_better=False)
    subjects = (SubjectScores(subject="student 1 step", steps=1, guidance_scale=0.0, scores=(score,)),)
    card = Scorecard(
        student_sha256="1" * 64,
        teacher_sha256="2" * 64,
        package_sha256="3" * 64,
        subjects=subjects,
        grids=(FileRef(path="grids/a.png", sha256="5" * 64),),
        grid_prompts=("a",),
        reused=(),
        seconds=1.0,
    )
    version = ModelVersion(name="m", version=1, run_id="r", student_sha256="1" * 64)
    verdict = Verdict(
        name="m",
        version=1,
        champion_version=None,
        scorecard_sha256=card.digest,
        rules_sha256="6" * 64,
        passed=True,
        rules=(),
    )
    return {"scorecard": card, "version": version, "verdict": verdict}


@mutated
@given(data=st.data())
def test_what_the_gate_and_a_promotion_read(data: st.DataObject, base: Path) -> None:
    with tempfile.TemporaryDirectory(dir=base) as scratch:
        folder = Path(scratch)
        found = records()
        for name, record in found.items():
            (folder / name).mkdir()
            record.save(folder / name)
        (folder / "rules.toml").write_text(as_toml(GATE_RULES))
        what = data.draw(st.sampled_from(["rules", *found]))
        if what == "rules":
            spoil(data, folder / "rules.toml", GATE_RULES, as_toml)
        else:
            spoil(data, folder / what / found[what].FILE, dumped(found[what]))
        store = ["--tracking-uri", f"sqlite:///{folder}/none.db"]
        if what == "verdict":
            command("promote", "--verdict", str(folder / "verdict"), *store)
        else:
            given = ["--version", str(folder / "version"), "--scorecard", str(folder / "scorecard")]
            command("gate", *given, "--rules", str(folder / "rules.toml"), *store)


WEIGHTS = {
    "captions": {"place": "captions.txt", "sha256": "1" * 64},
    "reference-clean": {"place": "s3://b/k", "sha256": "2" * 64},
}
TRIGGERS = {
    "on": [
        {
            "name": "n",
            "event": "model_version.created",
            "model": "sd15-*",
            "run": {"pipeline": "distil-and-evaluate", "parameters": {"seed": 1}},
        }
    ],
    "watch": [{"name": "w", "place": "s3://b/prompts", "run": {"pipeline": "distil-and-evaluate"}}],
}
PROFILE = {
    "images": {name: f"r.example/{name}@sha256:{'a' * 64}" for name in ("curate", "train", "evaluate")},
    "run": {"ttl": "1d"},
    "defaults": {"cpu": "2", "retries": 1, "timeout": "1h"},
    "stages": {"distil": {"gpus": 1, "memory": "16Gi", "volumes": [{"claim": "c", "path": "/data"}]}},
}
SCHEDULES = {
    "experiment": "e",
    "schedule": [{"name": "n", "pipeline": "none", "cron": "0 3 * * *", "time_zone": "UTC", "parameters": {"seed": 1}}],
}
TABLES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "weights": (WEIGHTS, ["protocols", "--weights"]),
    "triggers": (TRIGGERS, ["triggers", "check", "--file"]),
    # Of what is no pipeline: a good file is compiled nowhere, and asks no server.
    "profile": (PROFILE, ["compile", "--pipeline", "none", "--profile"]),
    "schedules": (SCHEDULES, ["schedule", "--host", "http://127.0.0.1:9", "--file"]),
}


@mutated
@given(data=st.data())
@pytest.mark.parametrize("name", TABLES)
def test_a_file_of_settings(data: st.DataObject, name: str, base: Path) -> None:
    values, arguments = TABLES[name]
    with tempfile.TemporaryDirectory(dir=base) as folder:
        path = Path(folder) / "file.toml"
        path.write_text(as_toml(values))
        spoil(data, path, values, as_toml)
        command(*arguments, str(path))


COUNTERS = {
    "kind": "sidlsg/feature-statistics/1",
    "count": 3,
    "space": "s",
    "network_sha256": "1" * 64,
    "images_sha256": "2" * 64,
    "prompts_sha256": "",
}


@mutated
@given(data=st.data())
def test_statistics_of_features(data: st.DataObject, base: Path) -> None:
    import torch

    from sidlsg.storage.tensors import save_tensors

    with tempfile.TemporaryDirectory(dir=base) as scratch:
        path = Path(scratch) / "a.safetensors"
        square = torch.eye(2, dtype=torch.float64)
        tensors = {"sum": torch.ones(2, dtype=torch.float64), "outer": square}
        if data.draw(st.booleans()):
            name = data.draw(st.sampled_from(["sum", "outer"]))
            tensors[name] = data.draw(st.sampled_from([square[0], square[:1], square.float(), torch.tensor(1)]))
        found = list(places(COUNTERS))
        value = changed(COUNTERS, data.draw(st.sampled_from(found)), data.draw(st.sampled_from(HOSTILE)))
        save_tensors(path, tensors, value)
        if data.draw(st.booleans()):
            put(path, path.read_bytes()[: data.draw(st.integers(0, 400))])
        command("images", "statistics", str(path), "--output", str(Path(scratch) / "out.safetensors"))


@mutated
@given(data=st.data())
def test_a_checkpoints_manifest(data: st.DataObject) -> None:
    """A damaged one is passed over, see `test_checkpoint.py`; nothing but this error may come of it."""
    from sidlsg.distil.run_identity import Manifest, RunIdentity

    counters = {"log": [{"a": 1.0}], "generator_scaler": {}, "fake_score_scaler": {}}
    good = Manifest(iteration=1, run=RunIdentity({"seed": "0"}), counters=counters, files={"a": "b"})
    text = data.draw(documents(json.loads(good.to_json())))
    try:
        assert Manifest.from_json(text).to_json() == good.to_json()
    except ValueError as error:
        assert re.fullmatch("its checkpoint.json is damaged", str(error))


def test_what_is_not_mutated_is_read_to_its_end(teacher: Path, prompts: Path, student: Path, tmp_path: Path) -> None:
    """Else the tests above would only meet mistakes of their own."""
    assert encode(prompts, teacher, tmp_path / "states") == (0, "")
    assert command("estimate", "--teacher", str(teacher), "--gpu", "h100") == (0, "")
    assert command("generate", str(student), "a circle", "--output", str(tmp_path / "images")) == (0, "")
    (tmp_path / "held_out.txt").write_text("something else\n")
    held_out = ["--held-out", str(tmp_path / "held_out.txt")]
    assert command("curate", "--explain", "0", "--output", str(prompts), *held_out) == (0, "")
    (tmp_path / "rules.toml").write_text(as_toml(json.loads(json.dumps(dataclasses.asdict(CurationRules())))))
    assert command("curate", "--rules", str(tmp_path / "rules.toml"), "--print-rules") == (0, "")
    (tmp_path / "gate.toml").write_text(as_toml(GATE_RULES))
    found, store = records(), ["--tracking-uri", f"sqlite:///{tmp_path}/none.db"]
    for name, record in found.items():
        (tmp_path / name).mkdir()
        record.save(tmp_path / name)
    assert "no MLflow store" in command("promote", "--verdict", str(tmp_path / "verdict"), *store)[1]
    given = ["--version", str(tmp_path / "version"), "--scorecard", str(tmp_path / "scorecard")]
    assert "grids/a.png is missing" in command("gate", *given, "--rules", str(tmp_path / "gate.toml"), *store)[1]
    for name, said in {"weights": "", "triggers": "", "profile": "pipeline 'none'", "schedules": "pipeline"}.items():
        values, arguments = TABLES[name]
        (tmp_path / "file.toml").write_text(as_toml(values))
        code, error = command(*arguments, str(tmp_path / "file.toml"))
        assert (code == 0) is (not said), error
        assert said in error
