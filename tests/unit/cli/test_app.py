"""The command line: quick to start, and wrong input is one line, exit code 2, and nothing written."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sidlsg import __version__
from sidlsg.distil.recipes import RECIPES
from sidlsg.runtime.errors import SidlsgError
from sidlsg.storage.records import EmbeddingSet, ModelVersion, PromptSet, Student, Verdict

HEAVY = ("torch", "mlflow", "diffusers", "transformers", "kfp", "pyarrow", "pydantic", "numpy", "torchmetrics")
CAPTION = "a small red circle on a blue background"

Run = Callable[..., tuple[int, str, str]]


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


@pytest.fixture
def refused(sidlsg: Run, tmp_path: Path) -> Callable[..., None]:
    """Run a command that must be refused with one line, having written nothing."""

    def check(said: str, *arguments: str) -> None:
        before = tree(tmp_path)
        code, _, errors = sidlsg(*arguments)
        (line,) = errors.splitlines()
        assert line.startswith("error: ")
        assert said in line
        assert code == 2
        assert tree(tmp_path) == before

    return check


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A small table of prompts."""
    path = tmp_path / "prompts.parquet"
    texts = [f"a {size} {colour} ring on a grey background" for size in ("small", "large") for colour in RECIPES]
    pq.write_table(pa.table({"TEXT": texts, "AESTHETIC_SCORE": [6.0] * len(texts)}), path)
    return path


@pytest.fixture
def teacher(assets: Path, tmp_path: Path) -> Path:
    """A copy of the bundled teacher, to be spoiled."""
    return Path(shutil.copytree(assets / "tiny-sd", tmp_path / "teacher"))


def with_teacher(command: str, teacher: Path) -> list[str]:
    """The arguments of a command that reads a teacher."""
    given = {
        "run": ["run", "--output", "out"],
        "distil": ["distil", "--prompts", "prompts", "--output", "out", "--checkpoints", "state"],
        "evaluate": ["evaluate", "--student", "student", "--output", "out"],
    }
    return [*given[command], "--teacher", str(teacher)]


def test_the_program_starts_without_the_heavy_libraries() -> None:
    code = f"import sys, sidlsg.cli.app; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_installed_programs_help_lists_every_command() -> None:
    done = subprocess.run([sys.executable, "-m", "sidlsg", "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    for command in (
        "run",
        "curate",
        "encode",
        "distil",
        "register",
        "evaluate",
        "gate",
        "promote",
        "generate",
        "recipes",
    ):
        assert f" {command} " in done.stdout


def test_version_and_help_succeed(sidlsg: Run) -> None:
    assert sidlsg("--version") == (0, f"sidlsg {__version__}\n", "")
    code, out, errors = sidlsg("distil", "--help")
    assert (code, errors) == (0, "")
    assert "--teacher" in out


def test_recipes_are_listed_with_published_results(sidlsg: Run) -> None:
    code, out, errors = sidlsg("recipes")
    assert (code, errors) == (0, "")
    assert all(name in out for name in RECIPES)
    assert "FID 8.15 CLIP 0.304 at 18,800,000 images" in out


@pytest.mark.parametrize("command", ["run", "distil", "evaluate"])
def test_a_teacher_without_a_unet_is_refused(
    command: str, refused: Callable[..., None], teacher: Path, tiny_student: Path, tmp_path: Path
) -> None:
    (tmp_path / "student").symlink_to(tiny_student)
    shutil.rmtree(teacher / "unet")
    refused(f"{teacher} has no unet", *with_teacher(command, teacher))


@pytest.mark.parametrize("command", ["run", "distil"])
def test_a_teacher_in_a_pickle_is_refused(command: str, refused: Callable[..., None], teacher: Path) -> None:
    weights = teacher / "unet" / "diffusion_pytorch_model.safetensors"
    weights.with_suffix(".bin").write_bytes(pickle.dumps({"weight": [0.0]}))
    weights.unlink()
    refused("is a pickle, which can run code", *with_teacher(command, teacher))


@pytest.mark.parametrize(
    ("place", "said"),
    [("nowhere", "there is nothing at"), ("s3://bucket/teacher", "is on S3"), ("bundled:nothing", "nothing bundled")],
)
def test_a_teacher_that_is_not_there_is_refused(place: str, said: str, refused: Callable[..., None]) -> None:
    refused(said, "run", "--output", "out", "--teacher", place)
    refused(said, "distil", "--prompts", "p", "--output", "out", "--checkpoints", "state", "--teacher", place)


def test_a_table_without_the_text_column_is_refused(refused: Callable[..., None], tmp_path: Path) -> None:
    pq.write_table(pa.table({"words": ["a"], "AESTHETIC_SCORE": [1.0]}), tmp_path / "x.parquet")
    refused(
        "has no column 'TEXT' or 'caption' or 'prompt'; of its columns these hold strings: words; set",
        "curate",
        "--output",
        "out",
        "--source",
        str(tmp_path / "x.parquet"),
    )


def test_a_truncated_table_is_refused(refused: Callable[..., None], prompts: Path) -> None:
    prompts.write_bytes(prompts.read_bytes()[:-20])
    refused("truncated or damaged", "curate", "--output", "out", "--source", str(prompts))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kappa", "abc"), "--kappa is 'abc'; give a number"),
        (("--processes", "0"), "--processes is '0'; give a number, 1 or more"),
        (("--processes", "2.5"), "--processes is '2.5'; give a whole number, 1 or more"),
        (("--kappa",), "Option '--kappa' requires an argument; give --kappa VALUE"),
        (("--quiet=yes",), "Option '--quiet' does not take a value; give --quiet alone"),
        (("--kappa", "nan"), "kappa1 is nan; a guidance scale is a finite number"),
        (("--kappa", "inf"), "kappa1 is inf; a guidance scale is a finite number"),
        (("--kappa", "-1"), "strategy 'lsg' is given κ1..κ4 = -1, -1, -1, -1; it takes 0 or more"),
        (("--strategy", "long", "--scale", "kappa4=abc"), "--scale 'kappa4=abc' is not NAME=NUMBER"),
        (("--strategy", "long"), "strategy 'long' needs kappa4"),
        (("--strategy", "lgs", "--kappa", "2"), "'lgs' is unknown (did you mean 'lsg'?)"),
        (("--recipe", "tinny"), "recipe 'tinny' is unknown (did you mean 'tiny'?)"),
        (("--set", "iterations"), "--set 'iterations' has no value; give iterations=VALUE"),
        (("--set", "iteration=4"), "no value 'iteration' (did you mean 'iterations'?)"),
        (("--set", "iterations=four"), "iterations is 'four'; it must be of kind int"),
        (("--set", "lr=NaN"), "lr is nan; it must be a finite number above 0"),
        (("--bogus",), "No such option: --bogus; `sidlsg"),
        (("--kapa", "2"), "(Possible options: --kappa); `sidlsg"),
    ],
)
@pytest.mark.parametrize("command", ["run", "distil"])
def test_a_value_that_cannot_be_used_is_refused(
    command: str, arguments: tuple[str, ...], said: str, refused: Callable[..., None]
) -> None:
    places = {"run": (), "distil": ("--prompts", "p", "--checkpoints", "state")}[command]
    refused(said, command, "--output", "out", *places, *arguments)


@pytest.mark.parametrize("command", ["run", "curate", "distil", "evaluate"])
@pytest.mark.parametrize("place", ["taken", "file", "file/below"])
def test_an_output_that_is_taken_is_refused(
    command: str, place: str, refused: Callable[..., None], prompts: Path, tiny_student: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    arguments = {
        "run": (),
        "curate": ("--source", str(prompts)),
        "distil": ("--prompts", "p", "--checkpoints", "state"),
        "evaluate": ("--student", str(tiny_student)),
    }[command]
    said = "holds something else" if place == "taken" else "is a file"
    refused(said, command, "--output", place, *arguments)


@pytest.mark.parametrize(
    "given",
    [
        ("run", "--output"),
        ("delete", "student"),
        ("generate",),
        ("compile", "--output"),
        ("images", "statistics", "--output", "x.safetensors"),
    ],
)
def test_a_uri_is_no_path(given: tuple[str, ...], refused: Callable[..., None]) -> None:
    """Nothing is written to a folder named `s3:`."""
    rest = ("prompt",) if given == ("generate",) else ()
    refused("s3://bucket/key is given where a path on this machine is needed", *given, "s3://bucket/key", *rest)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("distil", "--prompts", "none", "--output", "out", "--checkpoints", "state"), PromptSet),
        (("encode", "--prompts", "none", "--output", "out"), PromptSet),
        (("evaluate", "--student", "none", "--output", "out"), Student),
        (("generate", "none", CAPTION), Student),
        (("register", "--student", "none", "--tracking-uri", "sqlite:///x.db", "--name", "m"), Student),
        (("gate", "--model-version", "none", "--scorecard", "none", "--tracking-uri", "sqlite:///x.db"), ModelVersion),
        (("promote", "--verdict", "none", "--tracking-uri", "sqlite:///x.db"), Verdict),
    ],
)
def test_an_earlier_stages_output_that_is_not_there_is_refused(
    arguments: tuple[str, ...], kind: type, refused: Callable[..., None]
) -> None:
    refused(f"no {kind.__name__} record", *arguments)


def test_a_pipeline_file_must_be_yaml(refused: Callable[..., None]) -> None:
    refused("is not a YAML file", "compile", "--output", "pipeline.json")


def test_unknown_commands_suggest_the_nearest(refused: Callable[..., None]) -> None:
    refused("No such command 'runn'. Did you mean 'run'? `sidlsg --help` lists what is allowed", "runn")
    refused("Did you mean 'version'? `sidlsg delete --help` lists", "delete", "versoin")
    refused("extra argument(s) (c); `sidlsg generate --help` lists", "generate", "a", "b", "c")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("gate", "m", "2"), "--scorecard is missing; give --scorecard PATH (Folder of a scorecard)"),
        (("generate", "student"), "PROMPT is missing; give it (Prompt of the images)"),
        (("delete", "student"), "FOLDER is missing; give it (Folder of a student)"),
        (("delete", "version", "m", "1"), "sqlite:///FILE), or set MLFLOW_TRACKING_URI"),
        (("serve", "m", "--port", "99999"), "--port is '99999'; give a number from 1 to 65535"),
    ],
)
def test_what_is_missing_or_out_of_range_is_named_with_what_to_give(
    given: tuple[str, ...], said: str, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    refused(said, *given)


def test_prompts_are_curated_from_the_command_line(sidlsg: Run, prompts: Path, tmp_path: Path) -> None:
    code, out, errors = sidlsg("curate", "--source", str(prompts), "--output", "out", "--set", "score.minimum=5.5")
    assert (code, errors) == (0, "")
    record = PromptSet.load(tmp_path / "out")
    assert out.splitlines()[-1] == f"{record.count:,} prompts in out"
    assert record.count == record.funnel[-1].rows_out > 0


def test_a_dry_run_prints_the_funnel_and_writes_nothing(sidlsg: Run, prompts: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    code, out, errors = sidlsg("curate", "--source", str(prompts), "--dry-run", "--sample", "10")
    assert (code, errors) == (0, "")
    assert re.search(r"^read +10 -> +10$", out, re.MULTILINE)
    assert tree(tmp_path) == before


def test_rules_are_printed_as_a_file_that_can_be_given(sidlsg: Run, tmp_path: Path) -> None:
    code, out, errors = sidlsg("curate", "--print-rules", "--set", "score.minimum=5.5")
    assert (code, errors) == (0, "")
    (tmp_path / "rules.toml").write_text(out)
    code, again, _ = sidlsg("curate", "--print-rules", "--rules", "rules.toml")
    assert (code, again) == (0, out)
    assert "minimum = 5.5" in out


def test_a_row_is_explained_from_the_command_line(sidlsg: Run, prompts: Path) -> None:
    sidlsg("curate", "--source", str(prompts), "--output", "set")
    code, out, errors = sidlsg("curate", "--output", "set", "--explain", f"{prompts.name}:0")
    assert (code, errors) == (0, "")
    assert re.search("kept|dropped by", out)


def test_curation_without_an_output_says_what_to_give(refused: Callable[..., None]) -> None:
    refused("give the folder of the prompt set, or --dry-run", "curate")
    refused("no PromptSet record at out", "curate", "--output", "out", "--explain", "")
    both = "--dry-run and --explain are given; give one of them"
    refused(both, "curate", "--output", "out", "--explain", "0", "--dry-run")
    refused("copy the set to a folder", "curate", "--output", "s3://bucket/set", "--explain", "1")
    refused("so --work must name a folder", "curate", "--output", "out", "--engine", "ray:auto")


def test_prompts_are_encoded_from_the_command_line(sidlsg: Run, prompts: Path, tmp_path: Path) -> None:
    sidlsg("curate", "--source", str(prompts), "--output", "set")
    places = ("encode", "--prompts", "set", "--output", "states")
    code, out, errors = sidlsg(*places)
    assert (code, errors) == (0, "")
    assert out.splitlines()[-1] == "1 shard in states"
    assert EmbeddingSet.load(tmp_path / "states").dtype == "float16"
    code, out, errors = sidlsg(*places, "--dtype", "float32", "--budget-gb", "0")
    assert (code, errors) == (0, "")
    assert out.splitlines()[-1] == "no shards in states"


def test_pictures_are_drawn_from_the_command_line(sidlsg: Run, tiny_student: Path, tmp_path: Path) -> None:
    code, out, errors = sidlsg(
        "generate", str(tiny_student), CAPTION, "--output", "pictures", "--count", "2", "--seed", "5"
    )
    assert (code, errors) == (0, "")
    assert out.split() == ["pictures/000005.png", "pictures/000006.png"]
    sidlsg("generate", str(tiny_student), CAPTION, "--output", "alone", "--seed", "5")
    together, alone = (
        np.asarray(Image.open(tmp_path / folder / "000005.png"), np.int16) for folder in ("pictures", "alone")
    )
    assert together.std() > 1
    assert np.abs(together - alone).max() <= 1


def test_generated_images_replace_nothing(sidlsg: Run, tiny_student: Path, tmp_path: Path) -> None:
    red, green = (("generate", str(tiny_student), f"a small {colour} ring") for colour in ("red", "green"))
    assert sidlsg(*red)[1] == "pictures/000000.png\n"
    (tmp_path / "pictures" / ".hidden").touch()
    first = tree(tmp_path)
    assert sidlsg(*red)[1] == "pictures/000000.png\n"
    assert tree(tmp_path) == first
    assert sidlsg(*green)[1] == "pictures/000000-2.png\n"
    assert sidlsg(*green, "--json")[1].startswith('{"file": "pictures/000000-2.png"')
    assert set(tree(tmp_path)) == {*first, "pictures/000000-2.png"}
    assert tree(tmp_path).items() >= first.items()


def test_a_folder_of_other_things_is_refused_for_images(
    refused: Callable[..., None], tiny_student: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "holidays").mkdir()
    (tmp_path / "holidays" / "beach.png").write_text("mine")
    for place, said in (("file", "is a file"), ("file/pictures", "is a file"), ("holidays", "else (beach.png); give")):
        refused(said, "generate", str(tiny_student), CAPTION, "--output", place)


def test_options_reach_the_recipe(monkeypatch: pytest.MonkeyPatch, sidlsg: Run) -> None:
    given: list[tuple[str, dict[str, object]]] = []

    class SeenError(SidlsgError):
        pass

    def seen(name: str, changes: str) -> None:
        given.append((name, json.loads(changes)))
        raise SeenError("seen")

    monkeypatch.setattr("sidlsg.distil.recipes.recipe_with_changes", seen)
    options = ["--recipe", "sd15", "--set", "iterations=4", "--set", "lr_schedule=cosine"]
    assert sidlsg("run", *options, "--kappa", "2")[::2] == (1, "error: seen\n")
    sidlsg("run", "--strategy", "custom", "--scale", "kappa1=1", "--scale", "kappa4=3")
    sidlsg("run", "--strategy", "none")
    assert given == [
        ("sd15", {"iterations": 4, "lr_schedule": "cosine", "scales": {"kappa": 2.0}}),
        ("tiny", {"strategy": "custom", "scales": {"kappa1": 1.0, "kappa4": 3.0}}),
        ("tiny", {"strategy": "none", "scales": {}}),
    ]


def test_a_file_of_the_system_that_cannot_be_used_is_one_line(monkeypatch: pytest.MonkeyPatch, sidlsg: Run) -> None:
    def unusable(*_: object) -> None:
        raise OSError(40, "Too many levels of symbolic links", "out/x")

    monkeypatch.setattr("sidlsg.cli.catalog.compile_pipeline", unusable)
    assert sidlsg("compile") == (1, "", "error: Too many levels of symbolic links: out/x\n")


def test_a_pipeline_without_an_image_gets_a_note(monkeypatch: pytest.MonkeyPatch, sidlsg: Run) -> None:
    monkeypatch.delenv("SIDLSG_IMAGE", raising=False)
    code, shown, message = sidlsg("compile", "--pipeline", "curate")
    assert (code, shown) == (0, "curate.yaml\n")
    assert (
        message
        == "note: no image was named, so no cluster can run this file: give --profile, or SIDLSG_IMAGE by digest\n"
    )
    monkeypatch.setenv("SIDLSG_IMAGE", f"registry.example/sidlsg@sha256:{'0' * 64}")
    assert sidlsg("compile", "--pipeline", "curate") == (0, "curate.yaml\n", "")


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError(28, "No space left on device", "out/x"), "out/x"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the output"),
    ],
)
def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, sidlsg: Run, error: Exception, place: str) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("sidlsg.cli.catalog.compile_pipeline", full)
    code, shown, message = sidlsg("compile")
    assert (code, shown) == (1, "")
    assert message.startswith(f"error: no space left on the device of {place}; free some")
    assert message.count("\n") == 1


def test_an_interrupted_command_says_how_to_resume(monkeypatch: pytest.MonkeyPatch, sidlsg: Run) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sidlsg.cli.catalog.compile_pipeline", interrupted)
    code, _, errors = sidlsg("compile")
    assert code == 130
    assert errors == "error: interrupted; the same command again resumes from the last checkpoint\n"


def test_no_command_at_all_shows_the_help(sidlsg: Run) -> None:
    code, out, errors = sidlsg()
    assert "Usage: " in out + errors
    assert "error:" not in errors
    assert code == 2


@pytest.mark.parametrize("seed", [-1, 2**53, 2**64])
def test_a_seed_that_a_pipeline_cannot_carry_exactly_is_refused(seed: int, refused: Callable[..., None]) -> None:
    # Kubeflow's parameters are doubles.
    refused(f"seed '{seed}' given; allowed: a whole number", "run", "--output", "out", "--seed", str(seed))
    places = ("--prompts", "p", "--checkpoints", "c")
    refused("give a number from 0 to 9007199254740991", "distil", *places, "--output", "out", "--seed", str(seed))


def test_a_record_of_another_kind_is_refused(refused: Callable[..., None], tmp_path: Path) -> None:
    path = ModelVersion(name="m", version=1, run_id="r", student_sha256="0").save(tmp_path)
    refused("is not a Verdict record", "promote", "--verdict", str(path), "--tracking-uri", "sqlite:///x.db")
