import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from mlflow.utils.validation import _validate_metric_name

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.evaluate.published import PROTOCOLS
from sidlsg.evaluate.teacher_scores import TeacherScores
from sidlsg.runtime.errors import InputError
from sidlsg.stages import sweep_results
from sidlsg.stages.failures import SettingFailure
from sidlsg.stages.sweep import SETTINGS, parse_setting, parse_settings
from sidlsg.stages.sweep_results import Swept, main_scores
from sidlsg.storage.records import ModelVersion, Score, Scorecard, SubjectScores

TEACHER = Path(str(files("sidlsg.assets"))) / "tiny-sd"
TEACHERS = [score for subject in TeacherScores.load(TEACHER).subjects for score in subject.scores]


def card(*names: str, kappas: tuple[float, float, float, float] | None = None, student: str = "s") -> Scorecard:
    scores = tuple(
        Score(name=name, value=i, protocol=f"{name}/x", n=9, reference_digest="r", higher_is_better=False)
        for i, name in enumerate(names)
    )
    return Scorecard(
        student_sha256=student,
        teacher_sha256="t",
        package_sha256="p",
        kappas=kappas,
        subjects=(SubjectScores(subject="student 1 step", steps=1, guidance_scale=0, scores=scores),),
        grids=(),
        grid_prompts=(),
        reused=(),
        seconds=1,
    )


def test_the_main_scores_are_one_of_each_kind() -> None:
    found = main_scores(card("fid_judge", "fid_efficientnet", "kid_judge", "precision_judge", "attributes", "fid"))
    assert [score.name for score in found] == ["fid_judge", "kid_judge", "precision_judge", "attributes"]


@pytest.mark.parametrize("protocol", [*PROTOCOLS, *sorted({s.protocol for s in TEACHERS})])
def test_a_metric_has_a_name_that_mlflow_takes(protocol: str) -> None:
    """Kubeflow Pipelines logs a step's metrics there, all or none."""
    (score,) = card("fid_judge").subjects[0].scores
    for setting in (*SETTINGS, 'lsg kappa=1.5 adapter={"rank":8,"targets":["to_q","ff.net.2"]} lr=5e-5'):
        name = f"{parse_setting(setting).folder} {replace(score, protocol=protocol).metric}"
        _validate_metric_name(name)
        assert protocol in name


def test_other_characters_than_mlflow_takes_are_replaced() -> None:
    (score,) = card("fid").subjects[0].scores
    assert replace(score, protocol="a(b=c)/é").metric == "fid a-b-c-/-"


def by_setting(
    settings: list[str], folders: list[Path], versions: list[str]
) -> tuple[list[Swept], list[SettingFailure]]:
    return sweep_results.by_setting(parse_settings(settings, "tiny", "{}"), folders, versions)


def version(number: int, student: str) -> str:
    return ModelVersion(name="m", version=number, run_id="r", student_sha256=student).to_json()


def test_results_come_in_the_settings_order_whatever_order_they_were_collected_in(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    card(kappas=(2, 2, 2, 2), student="a").save(folders[0])
    card(kappas=(1, 1, 1, 1), student="b").save(folders[1])
    versions = [version(1, "b"), version(2, "a")]
    found, failed = by_setting(["none", "lsg  kappa=2"], folders, versions)
    assert not failed
    assert [(each.setting.text, each.folder, each.version.version) for each in found] == [
        ("none", folders[1], 1),
        ("lsg kappa=2", folders[0], 2),
    ]
    with pytest.raises(InputError, match="neither a scorecard nor a failure of 'none'"):
        by_setting(["none", "lsg kappa=2"], folders[:1], versions)
    # Its text is not the user's.
    custom = "custom kappa1=1 kappa2=0.5 kappa3=1 kappa4=2"
    failure = SettingFailure(setting=custom, step="distil", error="e", exit_code=2)
    failure.save(tmp_path / "third")
    given = ["none", "custom kappa4=2 kappa3=1 kappa2=0.5 kappa1=1"]
    assert by_setting(given, [folders[1], tmp_path / "third"], [*versions, failure.to_json()])[1] == [failure]
    with pytest.raises(InputError, match="belongs to no setting"):
        by_setting(["none"], folders, versions)
    with pytest.raises(InputError, match="of setting 'lsg kappa=2', is of none of the versions given"):
        by_setting(["none", "lsg kappa=2"], folders, versions[:1])


def test_settings_that_differ_in_the_recipe_alone_are_told_apart(tmp_path: Path) -> None:
    settings = ["none", "none steps=2", 'none adapter={"rank": 8}']
    changed: list[dict[str, object]] = [{}, {"steps": 2}, {"adapter": {"rank": 8}}]
    folders = [tmp_path / str(number) for number in range(3)]
    for folder, changes in zip(folders, changed, strict=True):
        values = recipe_with_changes("tiny", json.dumps(changes)).values()
        replace(card(kappas=(1, 1, 1, 1), student=folder.name), recipe_values=values).save(folder)
    versions = [version(number, str(number)) for number in range(3)]
    found, failed = by_setting(settings, folders[::-1], versions)
    assert not failed
    assert [(each.setting.text, each.folder) for each in found] == [
        ("none", folders[0]),
        ("none steps=2", folders[1]),
        ('none adapter={"rank":8}', folders[2]),
    ]
    # One of them failed: its own results are missing, and nobody else's.
    failure = SettingFailure(setting="none steps=2", step="evaluate", error="e", exit_code=2)
    failure.save(tmp_path / "failed")
    found, failed = by_setting(settings, [folders[0], tmp_path / "failed", folders[2]], versions)
    assert ([each.setting.text for each in found], failed) == (["none", 'none adapter={"rank":8}'], [failure])
    with pytest.raises(InputError, match="neither a scorecard nor a failure of 'none steps=2'; sweep again"):
        by_setting(settings, [folders[0], folders[2]], versions)
    with pytest.raises(InputError, match="1 with another steps belongs to no setting of this sweep"):
        by_setting([settings[0], settings[2]], folders, versions)
