import base64
from dataclasses import replace

from PIL import Image

from sidlsg.report.page import page_image, sample_grids, subject_grid, subject_grids
from sidlsg.storage.records import FileRef


def decoded(source):
    kind, _, data = source.partition(";base64,")
    assert kind == "data:image/png"
    return base64.b64decode(data)


def test_grids_keep_their_order_and_real_images_stand_apart(make_run):
    run = make_run()
    generated, reference = subject_grids(run.records.scorecard, run.scorecard)
    assert [one.caption for one in generated] == ["teacher 20 steps", "teacher 1 step", "student 1 step"]
    assert [one.caption for one in reference] == ["real images"]
    assert decoded(generated[2].source) == (run.scorecard / "grids" / "student_1_step.png").read_bytes()
    assert decoded(reference[0].source) == (run.scorecard / "grids" / "real_images.png").read_bytes()


def test_what_is_real_follows_the_scores_not_the_name(make_run):
    run = make_run()
    card = run.records.scorecard
    card = replace(card, subjects=tuple(replace(subject, steps=1) for subject in card.subjects))
    generated, reference = subject_grids(card, run.scorecard)
    assert (len(generated), len(reference)) == (4, 0)


def test_a_remote_file_is_named_only(tmp_path):
    one = page_image(FileRef(path="s3://bucket/grid.png", sha256="0" * 64), tmp_path, "x")
    assert (one.source, one.path) == ("", "s3://bucket/grid.png")


def test_samples_are_named_by_images_seen(tmp_path):
    names = ("000000000", "000000001", "000012800", "last")
    for name in names:
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    strip = sample_grids([FileRef(path=f"{name}.png", sha256="") for name in names], tmp_path)
    assert [one.caption for one in strip] == ["0 images", "1 image", "12,800 images", "last"]
    assert decoded(strip[2].source) == b"000012800"


def test_width_is_the_files_own(make_run):
    run = make_run()
    (ref, *_) = run.records.scorecard.grids
    with Image.open(run.scorecard / ref.path) as image:
        assert page_image(ref, run.scorecard, "x").width == image.width


def test_one_subjects_grid(make_run):
    run = make_run()
    card = run.records.scorecard
    grid = subject_grid(card, run.scorecard, "student 1 step", "lsg κ = 1.5")
    assert grid.caption == "lsg κ = 1.5"
    assert decoded(grid.source) == (run.scorecard / "grids" / "student_1_step.png").read_bytes()
    assert subject_grid(card, run.scorecard, "student 4 steps", "x") is None
