import json

import polars as pl

from sidlsg.prompts.phases.row_steps import SAMPLES, Funnel, merged

TEXTS = pl.DataFrame({"text": [f"text {i}" for i in range(200)], "n": range(200)})


def part(table):
    funnel = Funnel()
    kept = funnel.count("even", table, pl.col("n") % 2 == 0, pl.format("{} is odd", "n"))
    funnel.count("small", kept, pl.col("n") < 10)
    return json.loads(json.dumps(funnel.to_dict()))


def test_counts_add_up_over_parts():
    steps = merged([part(TEXTS[:50]), part(TEXTS[50:])])
    assert [(name, s.rows_in, s.rows_out) for name, s in steps.items()] == [("even", 200, 100), ("small", 100, 5)]


def test_samples_do_not_depend_on_how_the_rows_are_cut():
    whole = merged([part(TEXTS)])["even"].samples
    assert len(whole) == SAMPLES
    for cuts in ([50], [1, 2, 199], [120]):
        ends = [*cuts, 200]
        parts = [part(TEXTS[start:stop]) for start, stop in zip([0, *cuts], ends, strict=True)]
        assert merged(reversed(parts))["even"].samples == whole
    text, why = next(iter(whole.values()))
    assert why == f"{text.removeprefix('text ')} is odd"


def test_null_is_dropped_and_long_texts_are_cut():
    funnel = Funnel()
    table = pl.DataFrame({"text": [None, "x" * 10_000], "n": [1, None]})
    assert funnel.count("step", table, pl.col("n") > 5).is_empty()
    ((text, why),) = funnel.to_dict()["step"]["samples"].values()
    assert (len(text), why) == (300, "")
