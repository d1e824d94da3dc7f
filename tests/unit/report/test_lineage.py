import hashlib
from dataclasses import replace

from sidlsg.report.run_page import digests, lineage, made_with


def test_lineage_follows_the_stages_with_the_records_own_digests(make_run):
    run = make_run()
    links = lineage(run.records)
    assert [name for name, _, _ in links] == ["Prompts", "Student", "Version", "Scorecard", "Verdict", "Promotion"]
    files = (
        (0, run.prompts / "prompt_set.json"),
        (1, run.student / "student.json"),
        (3, run.scorecard / "scorecard.json"),
    )
    for place, file in files:
        assert links[place][2] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert links[4][1] == "passed, 2 of 2 rules met"


def test_every_digest_is_in_full(make_run):
    found = digests(make_run().records)
    assert found["Teacher"] == "a" * 64
    assert found["Gate rules"] == "4" * 64
    assert found["Held-out prompts"] == "3" * 64
    assert all(len(digest) == 64 for digest in found.values())


def test_made_with_names_the_methods_values(make_run):
    student = make_run().records.student
    found = made_with(student)
    assert [found[name] for name in ("κ1", "κ2", "κ3", "κ4")] == ["1.5", "1.5", "1.5", "2.75"]
    assert (found["α"], found["t_init"], found["Batch"], found["Seed"]) == ("1.25", "625", "64", "4321")


def test_a_recipe_without_a_value_leaves_it_out(make_run):
    found = made_with(replace(make_run().records.student, recipe_values={}))
    assert "α" not in found
    assert "Batch" not in found
    assert found["t_init"] == "625"
