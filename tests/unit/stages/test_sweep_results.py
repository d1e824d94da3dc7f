from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from mlflow.utils.validation import _validate_metric_name

from sidlsg.evaluate.published import PROTOCOLS
from sidlsg.evaluate.teacher_scores import TeacherScores
from sidlsg.runtime.errors import InputError
from sidlsg.stages.failures import SettingFailure
from sidlsg.stages.sweep import SETTINGS, parse_setting
from sidlsg.stages.sweep_results import by_setting, main_scores
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
    for setting in SETTINGS:
        name = f"{parse_setting(setting).folder} {replace(score, protocol=protocol).metric}"
        _validate_metric_name(name)
        assert protocol in name


def test_other_characters_than_mlflow_takes_are_replaced() -> None:
    (score,) = card("fid").subjects[0].scores
    assert replace(score, protocol="a(b=c)/é").metric == "fid a-b-c-/-"


def version(number: int, student: str) -> str:
    return ModelVersion(name="m", version=number, run_id="r", student_sha256=student).to_json()


def test_results_come_in_the_settings_order_whatever_order_they_were_collected_in(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    card(kappas=(2, 2, 2, 2), student="a").save(folders[0])
    card(kappas=(1, 1, 1, 1), student="b").save(folders[1])
    versions = [version(1, "b"), version(2, "a")]
    found, failed = by_setting(["none", "lsg  kappa=2"], folders, versions)
    assert not failed
    assert [(each.setting, each.folder, each.version.version) for each in found] == [
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
