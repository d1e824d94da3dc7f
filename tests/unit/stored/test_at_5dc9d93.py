"""What users stored with the code of commit 5dc9d93 is read, continued, served and judged by today's.

`make_fixtures.py` says what lies in `at_5dc9d93/`. The registry is a SQLite store with its artifacts in a folder; what
is not covered is one on a server: PostgreSQL's tables are made by the same MLflow, and artifacts lie there on S3.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.store.db import utils
from PIL import Image
from safetensors.torch import load_file
from sqlalchemy import create_engine

from sidlsg.prompts.shards import read_prompts
from sidlsg.registry.address import sqlite_file
from sidlsg.registry.files import fetch_student
from sidlsg.registry.versions import find_version
from sidlsg.serving.predictor import Predictor
from sidlsg.serving.protocol import V1Request, parse
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import EmbeddingSet, ModelVersion, PromptSet, Scorecard, Student, Verdict

Run = Callable[..., tuple[int, str, str]]

OLD = Path(__file__).with_name("at_5dc9d93")
NAME, PROMPT = "old", "a small red circle on a blue background"
CHANGES = [
    word
    for name, value in json.loads((OLD / "training.json").read_text()).items()
    for word in ("--set", f"{name}={value}")
]
MADE_FROM = ("--prompts", str(OLD / "prompts"), "--teacher", str(OLD / "teacher"))


def close(one: Path, other: Path, absolute: float) -> None:
    """Check that two files of tensors are alike but for what another processor makes of them."""
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert (tensor.float() - theirs[name].float()).abs().max() <= absolute, name


def pixels(image: Path | bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(image if isinstance(image, Path) else io.BytesIO(image))).astype(int)


def expected() -> list[np.ndarray[Any, Any]]:
    """The images that the old code generated from seeds 7 and 8."""
    found = [pixels(path) for path in sorted((OLD / "generated").iterdir())]
    assert len(found) == 2
    assert np.abs(found[0] - found[1]).max() > 2
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the only file of them below a folder."""
    (file,) = folder.rglob("*.safetensors")
    return load_file(file)


def rows(student: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (student / "training_log.jsonl").read_text().splitlines()]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """The state in the middle of the training, where a training may write."""
    return Path(shutil.copytree(OLD / "checkpoints", tmp_path / "checkpoints"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the old MLflow store, put together in a folder of this test run."""
    folder = tmp_path_factory.mktemp("registry")
    text = gzip.decompress((OLD / "store.sql.gz").read_bytes()).decode().replace("FOLDER", str(folder))
    database = sqlite3.connect(folder / "mlflow.db")
    database.executescript(text)
    database.close()
    shutil.copytree(OLD / "artifacts", folder / "artifacts")
    (model,) = folder.glob("artifacts/*/artifacts/model")
    shutil.copytree(OLD / "student", model / "artifacts" / "student")
    address = f"sqlite:///{folder}/mlflow.db"
    # As `mlflow db upgrade` does, which users call after MLflow has changed its tables.
    utils._upgrade_db(create_engine(address))
    return address


@pytest.fixture(scope="module")
def model(registry: str) -> Path:
    """The champion's logged model, among the artifacts of its run."""
    (model,) = sqlite_file(registry).parent.glob("artifacts/*/artifacts/model")
    return model


def test_records_have_the_digests_that_others_name_them_by() -> None:
    student, version = Student.load(OLD / "student"), ModelVersion.load(OLD / "version")
    assert student.prompts_sha256 == PromptSet.load(OLD / "prompts").digest
    assert EmbeddingSet.load(OLD / "embeddings").prompts_sha256 == student.prompts_sha256
    assert version.student_sha256 == student.digest
    card, verdict = Scorecard.load(OLD / "scorecard"), Verdict.load(OLD / "verdict")
    assert card.student_sha256 == student.digest
    assert verdict.scorecard_sha256 == card.digest
    for record, folder in ((student, "student"), (card, "scorecard")):
        record.verify(OLD / folder)


def test_the_teachers_digest_is_the_one_that_its_student_names(sidlsg: Run) -> None:
    assert sidlsg("digest", str(OLD / "teacher")) == (0, f"{Student.load(OLD / 'student').teacher_sha256}\n", "")


def test_a_prompt_set_is_read_and_encoded(sidlsg: Run, tmp_path: Path) -> None:
    texts = read_prompts(OLD / "prompts")
    assert 20 <= len(texts) == len(set(texts)) == PromptSet.load(OLD / "prompts").count
    code, _, errors = sidlsg("encode", *MADE_FROM, "--dtype", "float32", "--output", "embeddings")
    assert code == 0, errors
    record = EmbeddingSet.load(OLD / "embeddings")
    assert record.shards
    for ref in (*record.shards, record.uncond):
        assert ref is not None
        close(tmp_path / "embeddings" / ref.path, OLD / "embeddings" / ref.path, 1e-4)


@pytest.mark.parametrize("encoded", [False, True])
def test_a_training_is_continued_and_ends_as_it_did(
    sidlsg: Run, checkpoints: Path, tmp_path: Path, encoded: bool
) -> None:
    extra = ["--embeddings", str(OLD / "embeddings")] if encoded else []
    places = ["--checkpoints", str(checkpoints), "--output", "student", "--processes", "1", "--threads", "1"]
    code, output, errors = sidlsg("distil", *MADE_FROM, *places, *CHANGES, *extra)
    assert code == 0, errors
    assert re.search(r"continues from \S*/000000002: iteration 2 of 4, 8 images seen", output)
    made, old = tmp_path / "student", OLD / "student"
    # The first half is not computed again: its rows are the old machine's, times included.
    assert rows(made)[:2] == rows(old)[:2]
    assert [row["images_seen"] for row in rows(made)] == [row["images_seen"] for row in rows(old)]
    assert Student.load(made).images_seen == Student.load(old).images_seen == 16
    before, then, now = weights(OLD / "checkpoints"), weights(old / "unet"), weights(made / "unet")
    missed = torch.stack([(now[name] - then[name]).norm() for name in then]).norm()
    moved = torch.stack([(then[name] - before[f"ema.{name}"]).norm() for name in then]).norm()
    assert now.keys() == then.keys()
    assert missed < 0.01 * moved


def test_a_training_of_another_seed_does_not_continue_it(sidlsg: Run, checkpoints: Path) -> None:
    places = ["--checkpoints", str(checkpoints), "--output", "student"]
    code, _, errors = sidlsg("distil", *MADE_FROM, *places, *CHANGES, "--seed", "1")
    assert code == 2
    assert "holds checkpoints of another run: seed is 1 here and 0 there" in errors


def test_a_student_generates_the_images_that_it_did(sidlsg: Run, tmp_path: Path) -> None:
    words = ["generate", str(OLD / "student"), PROMPT, "--count", "2", "--seed", "7", "--output", "images"]
    code, _, errors = sidlsg(*words)
    assert code == 0, errors
    for path, old in zip(sorted((tmp_path / "images").iterdir()), expected(), strict=True):
        assert np.abs(pixels(path) - old).max() <= 1


def test_a_logged_model_is_loaded_by_mlflow_alone(registry: str) -> None:
    client = MlflowClient(tracking_uri=registry, registry_uri=registry)
    source = client.get_model_version_by_alias(NAME, "champion").source
    (made,) = mlflow.pyfunc.load_model(source).predict([PROMPT], params={"seed": 7, "count": 2})
    for image, old in zip(made, expected(), strict=True):
        assert np.abs(pixels(base64.b64decode(image)) - old).max() <= 1


def test_a_logged_model_is_served(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    sums = [f"{sha256_file(path)}  {path.relative_to(copy).as_posix()}\n" for path in files]
    (copy / "SHA256SUMS").write_text("".join(sums))
    body = {"instances": [PROMPT], "parameters": {"seed": 7, "count": 2}}
    (made,) = Predictor(copy, NAME, {}).predict(parse(V1Request, json.dumps(body).encode()))
    for image, old in zip(made, expected(), strict=True):
        assert image is not None
        assert np.abs(pixels(base64.b64decode(image)) - old).max() <= 1


def test_a_version_is_found_with_its_student_and_is_whole(sidlsg: Run, registry: str, tmp_path: Path) -> None:
    version = find_version(registry, NAME, "champion")
    assert version == ModelVersion.load(OLD / "version")
    assert Student.load(fetch_student(version, registry, tmp_path / "student")) == Student.load(OLD / "student")
    doctor = sidlsg("registry", "doctor", NAME, "--files", "--tracking-uri", registry)
    assert doctor == (0, f"{NAME} is in order\n", "")


def test_a_version_without_a_digest_of_its_code_is_not_fetched_to_be_served(sidlsg: Run, registry: str) -> None:
    # Such a digest is kept since commit 0791d60; whoever wrote the artifacts may have changed a version of before.
    words = ["registry", "fetch", NAME, "champion", "--tracking-uri", registry, "--output", "model"]
    code, _, errors = sidlsg(*words)
    assert code == 2
    assert f"the run of version 1 of '{NAME}' has no digest of the files that serve it (model_sha256)" in errors
    assert "register the student again" in errors


def test_a_student_that_is_registered_gets_no_second_version(sidlsg: Run, registry: str) -> None:
    words = ["register", "--student", str(OLD / "student"), "--name", NAME, "--tracking-uri", registry, "--json"]
    code, output, errors = sidlsg(*words)
    assert code == 0, errors
    assert ModelVersion.from_json(output) == ModelVersion.load(OLD / "version")


def test_the_gate_judges_a_version_as_it_did(sidlsg: Run, registry: str, tmp_path: Path) -> None:
    judged = ["--version", str(OLD / "version"), "--scorecard", str(OLD / "scorecard")]
    words = ["gate", *judged, "--rules", str(OLD / "rules.toml"), "--tracking-uri", registry, "--output", "verdict"]
    code, _, errors = sidlsg(*words)
    assert code == 0, errors
    verdict, old = Verdict.load(tmp_path / "verdict"), Verdict.load(OLD / "verdict")
    assert (verdict.scorecard_sha256, verdict.rules_sha256) == (old.scorecard_sha256, old.rules_sha256)
    found, before = ([(rule.rule, rule.passed) for rule in each.rules] for each in (verdict, old))
    worded = ("worse than the champion's by at most 1000", "at most 1000 worse than the champion's")
    assert found == [(words.replace(*worded), passed) for words, passed in before]


def test_an_old_champion_is_what_a_new_version_is_compared_with(sidlsg: Run, registry: str, tmp_path: Path) -> None:
    student = Path(shutil.copytree(OLD / "student", tmp_path / "new"))
    values = json.loads((student / Student.FILE).read_text())
    (student / Student.FILE).write_text(json.dumps({**values, "seed": 5}))
    store = ["--tracking-uri", registry]
    code, _, errors = sidlsg("register", "--student", str(student), "--name", NAME, *store, "--output", "version")
    assert code == 0, errors
    version = ModelVersion.load(tmp_path / "version")
    assert version.version == 2
    card = Path(shutil.copytree(OLD / "scorecard", tmp_path / "card"))
    values = json.loads((card / Scorecard.FILE).read_text())
    (card / Scorecard.FILE).write_text(json.dumps({**values, "student_sha256": version.student_sha256}))
    words = ["gate", "--version", "version", "--scorecard", "card", "--rules", str(OLD / "rules.toml"), *store]
    code, _, errors = sidlsg(*words, "--output", "verdict")
    assert code == 0, errors
    verdict = Verdict.load(tmp_path / "verdict")
    assert verdict.champion_version == 1
    assert re.search(r"champion version 1 has [\d.]+: better by 0 \(noise [\d.]+\)", verdict.rules[-1].found)


@pytest.mark.long
def test_scores_of_before_compare_with_todays(sidlsg: Run, tmp_path: Path) -> None:
    places = ["--student", str(OLD / "student"), "--teacher", str(OLD / "teacher"), "--output", "card"]
    code, _, errors = sidlsg("evaluate", *places, "--teacher-setting", "teacher 1 step")
    assert code == 0, errors
    made, old = Scorecard.load(tmp_path / "card"), Scorecard.load(OLD / "scorecard")
    assert [each.subject for each in made.subjects] == [each.subject for each in old.subjects]
    for subject in old.subjects:
        for score in subject.scores:
            today = made.subject(subject.subject).score(score.name)
            today.require_comparable(score)
            assert today.value == pytest.approx(score.value, rel=0.01, abs=1e-3), (subject.subject, score.name)
