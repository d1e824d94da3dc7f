"""The evaluate stage under published protocols: with the shapes domain's, and alone."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from PIL import Image

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.protocols import load_domain_protocols, real_images
from sidlsg.bundled.shapes.captions import held_out_captions
from sidlsg.evaluate.feature_files import FeatureSet, Source, save_features
from sidlsg.evaluate.networks import InceptionFeatures
from sidlsg.evaluate.published_suite import PublishedSuite
from sidlsg.evaluate.weights import WeightFile
from sidlsg.runtime.errors import InputError
from sidlsg.stages import evaluate as stage
from sidlsg.stages.evaluate import evaluate
from sidlsg.storage.files import folder_lock
from sidlsg.storage.records import Scorecard, Student
from unit.evaluate.standin import save_stand_in, sha256

PR, FEW = "pr/inception-k3", 24


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedSuite:
    """Precision and recall of 24 captions of the shapes domain."""
    monkeypatch.setattr(stage, "load_domain_protocols", functools.partial(load_domain_protocols, count=FEW))
    captions = held_out_captions()[:FEW]
    network = save_stand_in(tmp_path / "inception.pt")
    reference = InceptionFeatures(network, "clean")(real_images(SHAPES, captions, 5), [])
    source = Source(space="inception-2015-12-05/clean", network_sha256=sha256(network), images_sha256="x")
    save_features(FeatureSet(features=reference, source=source), tmp_path / "reference.safetensors")
    (tmp_path / "captions.txt").write_text("\n".join(caption.text for caption in captions))
    files = {"inception-2015-12-05": network, "reference-clean": tmp_path / "reference.safetensors"}
    files["captions"] = tmp_path / "captions.txt"
    weights = {name: WeightFile(place=str(path), sha256=sha256(path)) for name, path in files.items()}
    return PublishedSuite([PR], weights, torch.device("cpu"))


def test_both_kinds_of_protocols_and_the_teacher_as_asked_for(
    suite: PublishedSuite, tiny_student: Path, assets: Path, held_out: list[str], judge_file: Path, tmp_path: Path
) -> None:
    card = evaluate(
        tiny_student, assets / "tiny-sd", tmp_path / "card", held_out, judge_file, print,
        published=suite, settings=["teacher 4 steps"], keep_images=str(tmp_path / "kept"),
    )  # fmt: skip
    assert Scorecard.load(tmp_path / "card") == card
    card.verify(tmp_path / "card")
    assert [subject.subject for subject in card.subjects] == ["teacher 4 steps", "student 1 step", "real images"]
    published = ["precision", "recall"]
    assert [s.name for s in card.subject("teacher 4 steps").scores][-2:] == published
    assert [s.name for s in card.subject("student 1 step").scores][-2:] == published
    assert not set(published) & {s.name for s in card.subject("real images").scores}
    assert all(s.protocol == PR and s.n == FEW for s in card.subject("student 1 step").scores[-2:])
    # Whose it is, and what a person looks at.
    assert (card.recipe, card.strategy, card.kappas) == ("tiny", "lsg", (1.2, 1.2, 1.2, 1.2))
    assert card.recipe_values == Student.load(tiny_student).recipe_values
    assert [extreme.best for extreme in card.extremes] == [True] * 6 + [False] * 6
    values = [extreme.value for extreme in card.extremes]
    assert values[:6] == sorted(values[:6], reverse=True)
    assert values[6:] == sorted(values[6:])
    assert values[6] <= values[5]
    assert {Image.open(tmp_path / "card" / extreme.picture.path).size for extreme in card.extremes} == {(32, 32)}
    # Both sets' pictures, of each generator.
    for subject in ("teacher_4_steps", "student_1_step"):
        for drawn in ("shapes", "captions"):
            assert len(list((tmp_path / "kept" / subject / drawn).glob("*.png"))) == FEW
    assert not (tmp_path / ".card.parts").exists()


def test_a_teachers_published_scores_are_only_for_who_asks(
    suite: PublishedSuite, tiny_student: Path, assets: Path, judge_file: Path, tmp_path: Path
) -> None:
    # Prompts of no shapes: the domain's own protocols do not apply.
    card = evaluate(
        tiny_student, assets / "tiny-sd", tmp_path / "card", ["a dog"], judge_file, print, published=suite
    )  # fmt: skip
    assert [subject.subject for subject in card.subjects] == ["student 1 step"]
    assert [score.protocol for score in card.subjects[0].scores] == [PR, PR]
    assert card.extremes == ()
    assert len(card.grid_prompts) == FEW
    assert [ref.path for ref in card.grids] == ["grids/student_1_step.png"]


def test_unknown_settings_are_refused(
    suite: PublishedSuite, tiny_student: Path, assets: Path, held_out: list[str], judge_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"no setting 'teacher 3 steps' \(did you mean 'teacher 4 steps'"):
        evaluate(
            tiny_student, assets / "tiny-sd", tmp_path / "card", held_out, judge_file, print,
            published=suite, settings=["teacher 3 steps"],
        )  # fmt: skip
    assert not (tmp_path / "card").exists()


@pytest.mark.parametrize("place", ["card/pictures", "card", "file/pictures"])
def test_pictures_cannot_be_kept_where_they_would_vanish(
    tiny_student: Path, assets: Path, held_out: list[str], judge_file: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"lies inside the output folder|nothing can be written to"):
        evaluate(
            tiny_student, assets / "tiny-sd", tmp_path / "card", held_out, judge_file, print,
            keep_images=str(tmp_path / place),
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("suite")
def test_two_evaluations_into_one_folder_are_one_too_many(
    tiny_student: Path, assets: Path, held_out: list[str], judge_file: Path, tmp_path: Path
) -> None:
    (tmp_path / ".card.parts").mkdir()
    with (
        folder_lock(tmp_path / ".card.parts"),
        pytest.raises(InputError, match="another evaluation is writing"),
    ):
        evaluate(tiny_student, assets / "tiny-sd", tmp_path / "card", held_out, judge_file, print)
