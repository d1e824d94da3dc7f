"""The components' bodies, called in this process where that is cheap; the pipeline's test runs all of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp.dsl import HTML, Artifact, Dataset, Markdown, Metrics, Model

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.real_images import write_real_images
from sidlsg.components.curate.component import curate
from sidlsg.components.distil.component import distil
from sidlsg.components.encode.component import encode
from sidlsg.components.evaluate.component import evaluate
from sidlsg.components.find.component import find
from sidlsg.components.gate.component import gate
from sidlsg.components.plan.component import plan
from sidlsg.components.promote.component import promote
from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.prompts.source.files import sources_state
from sidlsg.real_images.source import settled_source
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import changes_text
from sidlsg.storage.real_image_set import real_images_of
from sidlsg.storage.records import EmbeddingSet, PromptSet, Student, Verdict
from sidlsg.storage.uri import HELD_OUT, JUDGE, TEACHER


@pytest.fixture
def source(tmp_path: Path) -> Path:
    texts = ["a small red circle", "a large blue ring", "too short", "held out of all"]
    path = tmp_path / "source.parquet"
    pq.write_table(pa.table({"caption": texts, "AESTHETIC_SCORE": [5.0, 6.5, 9.0, 9.0]}), path)
    return path


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    path = tmp_path / "held_out.txt"
    path.write_text("Held out of all\n")
    return path


def run_curate(source: Path, held_out: Path, target: Path, source_state: str = "") -> tuple[Dataset, float]:
    prompt_set = Dataset(name="prompt_set", uri=str(target), metadata={})
    (seconds,) = curate.python_func(
        source=str(source),
        source_state=source_state,
        held_out=str(held_out),
        rules={"columns.text": "caption", "score.minimum": 4.0},
        results_version="code",
        prompt_set=prompt_set,
    )
    return prompt_set, seconds


def test_curate_applies_the_given_rules_and_tells_what_it_wrote(source: Path, held_out: Path, tmp_path: Path) -> None:
    prompt_set, seconds = run_curate(source, held_out, tmp_path / "out", sources_state([str(source)]))
    record = PromptSet.load(tmp_path / "out")
    record.verify(tmp_path / "out")
    texts = pq.read_table(tmp_path / "out" / record.shards[0].path)["text"].to_pylist()
    assert sorted(texts) == ["a large blue ring", "a small red circle"]
    assert prompt_set.metadata == {"sha256": record.digest, "count": 2, "results_version": "code"}
    assert isinstance(seconds, float)


def test_curate_refuses_a_source_that_changed_after_the_run_began(source: Path, held_out: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="were changed after this run began"):
        run_curate(source, held_out, tmp_path / "out", "0" * 64)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("budget_gb", "shards"), [(0.0, 0), (1.0, 1)])
def test_encode_keeps_to_the_budget_and_tells_what_it_wrote(
    budget_gb: float, shards: int, source: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt_set, _ = run_curate(source, held_out, tmp_path / "prompts")
    embeddings = Dataset(name="embeddings", uri=str(tmp_path / "out"), metadata={})
    (seconds,) = encode.python_func(
        prompt_set=prompt_set,
        teacher=TEACHER,
        teacher_layout="",
        dtype="float32",
        budget_gb=budget_gb,
        real_images="",
        held_out=str(held_out),
        results_version="code",
        embeddings=embeddings,
    )
    record = EmbeddingSet.load(tmp_path / "out")
    record.verify(tmp_path / "out")
    assert (record.prompts_sha256, record.dtype, len(record.shards)) == (
        prompt_set.metadata["sha256"],
        "float32",
        shards,
    )
    assert embeddings.metadata == {"sha256": record.digest, "shards": shards, "results_version": "code"}
    assert isinstance(seconds, float)
    assert "note: 2 text embeddings of 16 × 96 in float32 take " in capsys.readouterr().out


def test_real_images_are_encoded_beside_the_embeddings_and_trained_with(
    source: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIDLSG_CHECKPOINTS", str(tmp_path / "checkpoints"))
    write_real_images(SHAPES, tmp_path / "shapes.tar", 8, 0)
    changes = {"iterations": 2.0, "batch": 4.0, "micro_batch": 4.0, "grids": 0.0, "evaluate_every": 0.0}
    changes |= {
        "adversarial": {"lambda_d": 0.1, "lambda_g": 0.1},
        "real_images": {"source": str(tmp_path / "shapes.tar"), "licence": "CC0-1.0"},
    }
    prompt_set, _ = run_curate(source, held_out, tmp_path / "prompts")
    embeddings = Dataset(name="embeddings", uri=str(tmp_path / "states"), metadata={})
    inputs = {"prompt_set": prompt_set, "teacher": TEACHER, "teacher_layout": "", "results_version": ""}
    encode.python_func(
        **inputs,
        dtype="float32",
        budget_gb=1.0,
        real_images=settled_source(recipe_with_changes("tiny", changes_text(changes)).real_images),
        held_out=str(held_out),
        embeddings=embeddings,
    )
    student = Model(name="student", uri=str(tmp_path / "student"), metadata={})
    distil.python_func(
        **inputs,
        embeddings=embeddings,
        recipe="tiny",
        changes=changes,
        seed=0,
        held_out=HELD_OUT,
        judge=JUDGE,
        student=student,
    )
    images = real_images_of(Student.load(tmp_path / "student"), tmp_path / "student")
    assert images is not None
    assert (images.count, images.licence) == (8, "CC0-1.0")


def test_distil_trains_on_the_text_states_that_it_is_given(
    source: Path, held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt_set, _ = run_curate(source, held_out, tmp_path / "prompts")
    # As a server gives a JSON object: all its numbers are doubles.
    changes = {"iterations": 2.0, "batch": 4.0, "micro_batch": 4.0, "grids": 1.0, "lr": 1e-3, "evaluate_every": 0.0}
    changes["on_alarm"] = "off"

    def run(name: str, budget_gb: float) -> bytes:
        monkeypatch.setenv("SIDLSG_CHECKPOINTS", str(tmp_path / f"{name}-checkpoints"))
        embeddings = Dataset(name="embeddings", uri=str(tmp_path / "states"), metadata={})
        if budget_gb >= 0:
            encode.python_func(
                prompt_set=prompt_set,
                teacher=TEACHER,
                teacher_layout="",
                dtype="float32",
                budget_gb=budget_gb,
                real_images="",
                held_out=str(held_out),
                results_version="",
                embeddings=embeddings,
            )
        student = Model(name="student", uri=str(tmp_path / name), metadata={})
        distil.python_func(
            prompt_set=prompt_set,
            embeddings=embeddings,
            teacher=TEACHER,
            teacher_layout="",
            recipe="tiny",
            changes=changes,
            seed=0,
            held_out=HELD_OUT,
            judge=JUDGE,
            results_version="",
            student=student,
        )
        return (tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()

    made = run("made", budget_gb=0)
    assert run("read", budget_gb=1) == made
    (shard,) = (tmp_path / "states" / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"00000\.safetensors differs"):
        run("damaged", budget_gb=-1)


def test_what_is_not_a_record_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://m:5000")
    card = Artifact(name="scorecard", uri=str(tmp_path / "card"), metadata={})
    Path(card.path).write_text("")
    page = Markdown(name="summary", uri=str(tmp_path / "summary"), metadata={})
    with pytest.raises(InputError, match="not a ModelVersion record"):
        gate.python_func(
            version="{}",
            scorecard=card,
            held_out_captions=card,
            judge_model=card,
            tracking_uri="http://m:5000",
            recipe="tiny",
            gate_rules="",
            summary=page,
        )
    with pytest.raises(InputError, match="not a Verdict record"):
        promote.python_func(verdict="{}", tracking_uri="http://m:5000", summary=page)
    places = dict.fromkeys(("held_out", "judge", "teacher_layout"), "")
    with pytest.raises(InputError, match="not a ModelVersion record"):
        evaluate.python_func(
            version="{}",
            teacher=TEACHER,
            **places,
            protocols="",
            weights="",
            teacher_settings="",
            keep_images="",
            results_version="",
            scorecard=card,
            metrics=Metrics(name="metrics", uri=str(tmp_path / "metrics"), metadata={}),
            html=HTML(name="html", uri=str(tmp_path / "html"), metadata={}),
        )


def test_plan_checks_every_setting() -> None:
    assert plan.python_func(settings=["none"], recipe="tiny", changes={}) == [{"scales": {}, "strategy": "none"}]
    (more,) = plan.python_func(settings=["none steps=2"], recipe="tiny", changes={"iterations": 2.0})
    assert more == {"scales": {}, "strategy": "none", "iterations": 2, "steps": 2, "setting": "none steps=2"}
    with pytest.raises(InputError, match="setting 'lsg'"):
        plan.python_func(settings=["none", "lsg"], recipe="tiny", changes={})


def test_find_asks_the_registry_that_it_is_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no MLflow store at .*elsewhere\.db"):
        find.python_func(tracking_uri=f"sqlite:///{tmp_path}/elsewhere.db", name="m", which="champion")


def test_promote_asks_the_registry_that_it_is_given(tmp_path: Path) -> None:
    verdict = Verdict(
        name="m", version=1, champion_version=None, scorecard_sha256="", rules_sha256="", passed=True, rules=()
    )
    page = Markdown(name="summary", uri=str(tmp_path / "summary"), metadata={})
    with pytest.raises(InputError, match=r"no MLflow store at .*elsewhere\.db"):
        promote.python_func(verdict=verdict.to_json(), tracking_uri=f"sqlite:///{tmp_path}/elsewhere.db", summary=page)


def test_a_step_without_an_mlflow_says_where_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match=r"no MLflow is given.*MLFLOW_TRACKING_URI"):
        find.python_func(tracking_uri="", name="m", which="champion")


def test_a_step_asks_the_registry_of_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    with pytest.raises(InputError, match=r"no MLflow store at .*elsewhere\.db"):
        find.python_func(tracking_uri="", name="m", which="champion")
