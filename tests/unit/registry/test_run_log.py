"""The training log and grids as metrics and images by step."""

from __future__ import annotations

import dataclasses

import pytest

from sidlsg.errors import InputError
from sidlsg.records import FileRef, Student
from sidlsg.registry.connect import connect, experiment_id
from sidlsg.registry.run_log import grid_steps, log_entries, log_student, run_params, training_rows


def test_rows_hold_numbers_by_images_seen(make_student):
    folder = make_student()
    (folder / "training_log.jsonl").write_text(
        '{"iteration": 7, "images_seen": 224, "generator_loss": 1, "ema": true, "device": "cpu"}\n'
    )
    assert training_rows(Student.load(folder), folder) == [(224, {"generator_loss": 1.0})]


@pytest.mark.parametrize("line", ["not json", "[1]", '{"iteration": 1}', '{"images_seen": 1.5}'])
def test_a_row_without_images_seen_is_refused(make_student, line):
    folder = make_student()
    (folder / "training_log.jsonl").write_text('{"images_seen": 1}\n' + line + "\n")
    with pytest.raises(InputError, match=r"training_log.jsonl line 2 is not a JSON object"):
        training_rows(Student.load(folder), folder)


def test_a_grid_that_is_not_named_by_images_seen_is_refused(make_student):
    folder = make_student()
    student = dataclasses.replace(Student.load(folder), grids=(FileRef(path="grids/last.png", sha256="0" * 64),))
    with pytest.raises(InputError, match="not named by images seen"):
        grid_steps(student, folder)


def test_the_records_own_values_win_over_the_recipes(make_student):
    params = run_params(Student.load(make_student(seed=5)))
    assert params["seed"] == "5"  # the recipe of the fixture says 999


def test_more_entries_than_one_request_holds(tracking_uri, make_student):
    """MLflow takes 1000 metrics and 100 parameters a request; logging everything twice adds nothing."""
    client = connect(tracking_uri, create=True)
    run = client.create_run(experiment_id(client, tracking_uri, "long-log"))
    folder = make_student()
    rows = "".join(f'{{"images_seen": {i}, "loss": {i}.5, "speed": 2}}\n' for i in range(700))
    (folder / "training_log.jsonl").write_text(rows)
    values = {f"value{i}": i for i in range(150)}
    student = dataclasses.replace(Student.load(folder), recipe_values=values)
    for _ in range(2):
        log_student(client, run, student, folder)
    log_entries(client, run.info.run_id, tags={f"tag{i}": "x" for i in range(150)})

    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in losses] == [(i, i + 0.5) for i in range(700)]
    assert len(client.get_metric_history(run.info.run_id, "speed")) == 700
    data = client.get_run(run.info.run_id).data
    assert {name: data.params[name] for name in values} == {name: str(i) for name, i in values.items()}
    assert sum(name.startswith("tag") for name in data.tags) == 150
    assert len([f for f in client.list_artifacts(run.info.run_id, "images") if f.path.endswith(".png")]) == 2
