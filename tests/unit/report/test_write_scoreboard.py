from dataclasses import replace

import pytest

from sidlsg.bundled.shapes.captions import held_out_captions
from sidlsg.bundled.shapes.drawing import draw
from sidlsg.distil.recipes import published_results
from sidlsg.report.scoreboard import write_scoreboard
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import Extreme, StyleMean, file_ref
from sidlsg.teacher.images import grid, save_png
from unit.report.cards import card, subject
from unit.report.page import Page

BAD = "<script>alert('x')</script> & <img src=x onerror=y>"


def save(folder, prompt="a red circle", fid=9.0, kappa=2.0, full=True):
    """A scorecard with everything that a card may have, or without what it may lack."""
    student = subject("student 1 step", 1, {"fid": fid, "clip": 0.3, "precision": 0.6, "recall": 0.5})
    teacher = subject("teacher 20 steps", 20, {"fid": 14.0, "clip": 0.31}, guidance_scale=7.5)
    record = card(student, teacher, subject("real images", 0, {"fid": 2.0, "clip": 0.33}))
    if full:
        images = draw(held_out_captions()[:4], 0, range(4))
        pictures = folder / "grids" / "student_1_step.png", folder / "extremes" / "best_00003.png"
        for path in pictures:
            save_png(grid(images, 2), path)
        extreme = Extreme(
            prompt=prompt, seed=3, value=0.4, measure="cosine", best=True, picture=file_ref(pictures[1], folder)
        )
        style = StyleMean(protocol="hpsv2/v2.0", style="photo", mean=27.0, deviation=0.125)
        record = replace(
            record,
            subjects=(replace(student, styles=(style,)), *record.subjects[1:]),
            recipe="sd15",
            strategy="lsg",
            kappas=(kappa,) * 4,
            images_seen=4_800_000,
            grids=(file_ref(pictures[0], folder),),
            extremes=(extreme, replace(extreme, best=False, value=0.1)),
        )
    folder.mkdir(exist_ok=True)
    record.save(folder)
    return folder


def write(output, *entries, title="Students"):
    write_scoreboard(entries, output, title, published_results())
    return output.read_text()


def test_a_page_of_several_students(tmp_path):
    a, b = save(tmp_path / "a", kappa=1.5), save(tmp_path / "b", fid=8.0)
    page = Page(write(tmp_path / "x.html", ("a", a), ("b", b)))
    assert page.sections == ["scores", "plots", "styles", "grids", "extremes", "measured"]
    scores = page.text("scores")
    assert "lsg κ = 1.5 a · 4,800,000 images seen 9.00 0.300" in scores
    assert scores.count("teacher 20 steps guidance scale 7.5 14.00 0.310") == 1
    assert scores.count("real images real-image baseline") == 1
    assert "sd15, 18.8 M published, 18.8 M images seen 8.15 0.304 – –" in scores
    assert "published: reference digest unknown, so never compared by the gate" in scores
    assert "lsg, in order of κ" in page.text("plots")
    assert "Precision against recall" in page.text("plots")
    assert "lsg κ = 2 27.00 ± 0.12" in page.text("styles")
    assert "By cosine, higher is better." in page.text("extremes")
    assert "a red circle 0.400 · seed 3" in page.text("extremes")
    assert "fid fid/coco2014-30k-clean 30,000 dddddddddddddddd" in page.text("measured")
    # A grid, a best and a worst image each.
    sources = [attributes["src"] for attributes in page.all("img")]
    assert len(sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_a_page_of_one_student_names_its_guidance(tmp_path):
    a = save(tmp_path / "a", kappa=1.5)
    scores = Page(write(tmp_path / "x.html", ("a", a))).text("scores")
    assert "student 1 step lsg κ = 1.5 · 4,800,000 images seen 9.00 0.300" in scores
    assert "teacher 20 steps guidance scale 7.5 14.00 0.310" in scores


def test_cards_without_anything_new_still_render(tmp_path):
    old, new = save(tmp_path / "old", full=False), save(tmp_path / "new")
    page = Page(write(tmp_path / "x.html", ("old", old)))
    assert page.sections == ["scores", "plots", "measured"]
    assert "student 1 step 9.00" in page.text("scores")
    page = Page(write(tmp_path / "y.html", ("old", old), ("new", new)))
    assert "old 9.00" in page.text("scores")


def test_a_card_without_scores_renders(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    card().save(folder)
    assert "The scorecards have no scores." in Page(write(tmp_path / "x.html", ("a", folder))).text("scores")


def test_whatever_a_card_or_a_caller_says_is_text(tmp_path):
    a, b = save(tmp_path / "a", prompt=BAD), save(tmp_path / "b")
    html = write(tmp_path / "x.html", (BAD, a), ("b", b), title=BAD)
    page = Page(html)
    assert page.all("script") == []
    assert len(page.all("img")) == 6
    assert BAD in page.text("extremes")
    assert BAD in page.text("plots")
    assert page.text("title") == BAD
    assert "http:" not in html
    assert html.count("url(") == html.count("url(#")


def test_equal_inputs_give_equal_bytes(tmp_path):
    entries = ("a", save(tmp_path / "a")), ("b", save(tmp_path / "b", kappa=3.0))
    assert write(tmp_path / "x.html", *entries) == write(tmp_path / "y.html", *entries)


def test_refusals_write_nothing(tmp_path):
    output, a = tmp_path / "x.html", save(tmp_path / "a")
    with pytest.raises(InputError, match="no scorecard given"):
        write(output)
    with pytest.raises(InputError, match="'a' is given 2 times"):
        write(output, ("a", a), ("a", a))
    with pytest.raises(InputError, match="no Scorecard record"):
        write(output, ("a", a), ("b", tmp_path / "none"))
    (a / "extremes" / "best_00003.png").write_bytes(b"other")
    with pytest.raises(InputError, match="changed or damaged"):
        write(output, ("a", a))
    assert not output.exists()
