import json
import math

import pytest

from sidlsg.report.training import read_training_log, training_charts
from sidlsg.runtime.errors import InputError


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_reads_numbers_and_takes_everything_else_for_nan(tmp_path):
    log = write(
        tmp_path / "log", {"images_seen": 64, "generator_loss": math.nan, "note": "x", "flag": True, "none": None}
    )
    (row,) = read_training_log(log)
    assert row["images_seen"] == 64
    assert all(math.isnan(row[name]) for name in ("generator_loss", "note", "flag", "none"))


@pytest.mark.parametrize("line", ["{", "[1]", '{"iteration": 1}', '{"images_seen": "64"}', ""])
def test_refuses_a_damaged_line(tmp_path, line):
    log = tmp_path / "log.jsonl"
    log.write_text('{"images_seen": 1}\n' + line + "\n")
    with pytest.raises(InputError, match=r"line 2 of .*log\.jsonl.*images_seen"):
        read_training_log(log)


def test_one_chart_a_quantity_with_its_values():
    rows = [
        {"images_seen": 0.0, "fake_score_loss": 10.0, "images_per_second": 20.0},
        {"images_seen": 100.0, "fake_score_loss": 20.0, "images_per_second": 40.0},
    ]
    found = training_charts(rows)
    charts = dict(found.charts)
    assert list(charts) == ["Fake-score loss", "Generator loss", "Gradient norms", "Speed"]
    assert ">loss, per image</text>" in charts["Fake-score loss"]
    # Speed starts at 0.
    assert ">0</text>" in charts["Speed"]
    assert "No finite value" in charts["Generator loss"]
    # The generator's loss and both norms are missing from both rows.
    assert (found.rows, found.gaps) == (2, 6)


def test_counts_every_gap():
    row = dict.fromkeys(
        (
            "fake_score_loss",
            "generator_loss",
            "fake_score_gradient_norm",
            "generator_gradient_norm",
            "images_per_second",
        ),
        1.0,
    )
    rows = [{"images_seen": 1.0, **row}, {"images_seen": 2.0, **row, "generator_loss": math.nan}]
    assert training_charts(rows).gaps == 1
    rows[0]["images_per_second"] = math.inf
    assert training_charts(rows).gaps == 2


def test_scores_during_training_come_first_each_with_a_chart():
    along = [
        {"iteration": 1.0, "images_seen": 64.0, "images": 504.0, "fid_judge": 80.0, "attributes": 0.8},
        {"iteration": 2.0, "images_seen": 128.0, "images": 504.0, "fid_judge": 20.0, "attributes": 0.9},
    ]
    found = training_charts([{"images_seen": 64.0}], along)
    assert [title for title, _ in found.charts][:3] == [
        "fid_judge during training",
        "attributes during training",
        "Fake-score loss",
    ]
    assert ">80</text>" in found.charts[0][1]
