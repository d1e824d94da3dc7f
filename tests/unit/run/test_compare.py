from pathlib import Path

import pytest

from sidlsg.errors import InputError
from sidlsg.records import Score, Scorecard, SubjectScores
from sidlsg.run.compare import by_setting, main_scores


def card(*names: str, kappas: tuple[float, float, float, float] | None = None) -> Scorecard:
    scores = tuple(
        Score(name=name, value=i, protocol=f"{name}/x", n=9, reference_digest="r", higher_is_better=False)
        for i, name in enumerate(names)
    )
    return Scorecard(
        student_sha256="s",
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


def test_scorecards_come_in_the_settings_order_whatever_order_they_were_collected_in(tmp_path: Path) -> None:
    card(kappas=(2, 2, 2, 2)).save(tmp_path / "first")
    card(kappas=(1, 1, 1, 1)).save(tmp_path / "second")
    folders = [tmp_path / "first", tmp_path / "second"]
    assert by_setting(["none", "lsg  kappa=2"], folders) == [("none", folders[1]), ("lsg kappa=2", folders[0])]
    with pytest.raises(InputError, match="belongs to no setting"):
        by_setting(["none"], folders)
