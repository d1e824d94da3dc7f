import re
from dataclasses import replace

import pytest

from sidlsg.runtime.costs import Prices
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import RuleResult
from unit.report.page import Page

SECTIONS = ["images", "scores", "scoreboard", "gate", "training", "samples", "records", "cost"]


@pytest.fixture
def output(tmp_path):
    return tmp_path / "report.html"


def test_every_section_is_there_in_order(make_run, output):
    html = make_run().write(output)
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert page.sections == SECTIONS
    assert page.text("title") == "shapes version 3: promoted"
    assert "shapes, version 3" in page.text("header")
    assert "Recipe tiny" in page.text("header")
    assert "Version 3 was promoted: it is the champion now. The champion before was version 2." in page.text("header")


def test_numbers_are_those_of_the_records(make_run, output):
    page = Page(make_run().write(output, prices=Prices(default=3.6)))
    scores = page.text("scores")
    assert "teacher 20 steps * 2.500 8.25 0.962 0.871" in scores
    assert "teacher 1 step 151.250 97.50 0.410 0.062" in scores
    assert "student 1 step 3.125 11.75 0.953 0.884" in scores
    assert "real images real-image baseline 0.094 0.50 0.999 0.996" in scores
    assert "fid_efficientnet fid/shapes-efficientnet-lite0-64-2016 2,016" in scores
    assert "From the teacher's own scorecard" in scores
    assert "that between two sets of real images" in scores
    assert "passed fid_judge of student 1 step is at most 0.25 × that of teacher 1 step 3.125 (" in page.text("gate")
    records = page.text("records")
    for part in ("1,210 prompts in 1 shard", "12,800 images seen", "κ4 2.75", "α 1.25", "t_init 625", "Seed 4321"):
        assert part in records
    assert "duplicates 5,980 1,210" in records
    # 450 s at 3.6 an hour; 558 s in all.
    assert "distil 7 min 30 s 3.60 0.4500" in page.text("cost")
    assert "all stages 9 min 18 s 0.5580" in page.text("cost")


def test_best_numbers_are_marked(make_run, output):
    html = make_run().write(output)
    assert re.findall(r'<td class="number best">([\d.]+)</td>', html) == ["0.884", "2.500", "8.25", "0.962"]


def test_the_scoreboard_shows_plots_and_no_second_score_table(make_run, output):
    page = Page(make_run().write(output))
    board = page.text("scoreboard")
    assert "Distance against text fit" in board
    assert {"student 1 step", "real images"} <= {one.strip() for one in page.texts["scoreboard"].split("\n")}
    assert "published" not in board
    assert len([attributes for attributes in page.all("table") if attributes.get("class") == "scores"]) == 1


def test_an_empty_scoreboard_has_a_note(make_run, output):
    run = make_run()
    card = run.records.scorecard
    card = replace(card, subjects=tuple(replace(one, scores=one.scores[:1]) for one in card.subjects))
    card.save(run.scorecard)
    run = replace(run, verdict=replace(run.verdict, scorecard_sha256=card.digest))
    assert "no two scores to plot against each other" in Page(run.write(output)).text("scoreboard")


def test_failed_rules_are_shown(make_run, output):
    rules = (RuleResult(rule="fid is at most 3", found="3.125", passed=False),)
    page = Page(make_run(rules=rules).write(output))
    assert "Version 3 was rejected: 1 of 1 rule failed. Version 2 stays the champion." in page.text("header")
    assert "failed fid is at most 3 3.125" in page.text("gate")


def test_without_a_price_there_is_no_cost(make_run, output):
    page = Page(make_run().write(output))
    assert "No price was given" in page.text("cost")
    assert "Cost " not in page.text("cost").removeprefix("Time and cost")


def test_one_file_that_loads_nothing(make_run, output):
    html = make_run().write(output)
    page = Page(html)
    # Four subjects and five sample grids.
    sources = [attributes["src"] for attributes in page.all("img")]
    assert len(sources) == 9
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(attributes["alt"] for attributes in page.all("img"))
    loading = {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video", "image", "a"}
    assert loading.isdisjoint(tag for tag, _ in page.elements)
    assert all(name not in attributes for _, attributes in page.elements for name in ("srcset", "xlink:href"))
    assert all(attributes.get("href", "#").startswith("#") for _, attributes in page.elements)
    assert "http" not in html
    assert "@import" not in html
    assert html.count("url(") == html.count("url(#")


def test_whatever_a_record_holds_is_text(make_run, output):
    bad = "<script>alert('x')</script> & <img src=x onerror=y>"
    rules = (RuleResult(rule=f"r {bad}", found=f"f {bad}", passed=True),)
    html = make_run(name=bad, first_prompt=bad, rules=rules).write(output)
    page = Page(html)
    assert page.all("script") == []
    assert len(page.all("img")) == 9
    assert bad in page.text("images")
    assert f"r {bad} f {bad}" in page.text("gate")
    assert f"{bad}, version 3" in page.text("header")


def test_score_and_stage_names_are_text_too(make_run, output):
    run = make_run()
    card = run.records.scorecard
    names = (replace(card.subjects[0].scores[0], name="<b>_x", protocol="<i>"),)
    card = replace(card, subjects=(replace(card.subjects[0], subject="<u>", scores=names),))
    card.save(run.scorecard)
    run = replace(run, verdict=replace(run.verdict, scorecard_sha256=card.digest))
    page = Page(run.write(output, seconds={"<s>": 1.0}))
    assert {"b", "i", "u", "s"}.isdisjoint(tag for tag, _ in page.elements)
    assert "<b>_x ↓ <u> 2.50" in page.text("scores")
    assert "<s> 1.0 s" in page.text("cost")


def test_a_run_with_nothing_optional(make_run, output):
    run = make_run(grids=False, log="")
    page = Page(run.write(output, seconds={}))
    assert page.sections == SECTIONS
    assert "no image grids" in page.text("images")
    assert "No iteration was logged" in page.text("training")
    assert "no sample grids" in page.text("samples")
    assert "No stage reported" in page.text("cost")


def test_a_log_of_nothing_finite(make_run, output):
    log = '{"images_seen": 64, "fake_score_loss": NaN, "generator_loss": Infinity}\n'
    page = Page(make_run(log=log).write(output))
    assert page.text("training").startswith("Training Fake-score loss No finite value")
    assert page.text("training").count("No finite value was logged.") == 4


def test_gaps_in_the_log_are_counted(make_run, output):
    page = Page(make_run().write(output))
    assert "1 logged value is missing or not finite" in page.text("training")


def test_equal_inputs_give_equal_bytes(make_run, output, tmp_path):
    run = make_run()
    assert run.write(output) == run.write(tmp_path / "again.html")


def test_a_changed_file_is_refused_and_nothing_written(make_run, output):
    run = make_run()
    (run.student / "grids" / "000000200.png").write_bytes(b"other")
    with pytest.raises(InputError, match="changed or damaged"):
        run.write(output)
    assert not output.exists()


def test_records_of_another_run_are_refused_and_nothing_written(make_run, output):
    run = make_run()
    with pytest.raises(InputError, match="one run"):
        replace(run, version=replace(run.version, student_sha256="0" * 64)).write(output)
    assert not output.exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "one-step generator, distilled without real images"),
        ({"steps": 4, "adversarial": {"lambda_d": 1.0}}, "4-step generator, distilled with real images"),
    ],
)
def test_the_head_says_the_steps_and_whether_real_images_were_used(make_run, output, values, said):
    assert said in Page(make_run(**values).write(output)).text("header")
