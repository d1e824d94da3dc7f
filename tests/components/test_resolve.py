"""What the resolve component hands on as artifacts."""

from pathlib import Path

from kfp.dsl import Dataset, Model

from sidlsg.components.resolve.component import resolve
from sidlsg.storage.uri import HELD_OUT, JUDGE, TEACHER, uri_digest
from sidlsg.teacher.format import DIFFUSERS


def test_the_inputs_are_artifacts_with_their_places_and_digests(tmp_path: Path) -> None:
    places = {"teacher_model": TEACHER, "held_out_captions": HELD_OUT, "judge_model": JUDGE}
    classes = {"teacher_model": Model, "held_out_captions": Dataset, "judge_model": Model}
    made = {name: of(name=name, uri=str(tmp_path / name), metadata={}) for name, of in classes.items()}
    found = resolve.python_func(
        prompts="",
        held_out=HELD_OUT,
        teacher=TEACHER,
        teacher_layout="",
        judge=JUDGE,
        weights="",
        gate_rules="",
        recipe="tiny",
        changes={},
        seed="0",
        pipeline_run="run-7",
        **made,
    )
    for name, place in places.items():
        assert made[name].metadata == {"place": place, "sha256": uri_digest(place, DIFFUSERS)}
        assert Path(made[name].path).read_text() in found
