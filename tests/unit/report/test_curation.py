import re

from sidlsg.report.curation import histogram, write_summary

FUNNEL = [
    {"name": "read", "demand": "a row", "rows_in": 100, "rows_out": 100},
    {"name": "score", "demand": "a score", "rows_in": 100, "rows_out": 25},
    {"name": "empty", "demand": "more", "rows_in": 25, "rows_out": 0},
]
STATISTICS = {
    "funnel": FUNNEL,
    "kept": ["a red dog", "<script>alert(1)</script> ``` `x`"],
    "dropped": {"score": [["a <b>blue</b> cat", "score 5"]]},
    "prompts_by_tokens": {"4": 2, "5": 1},
    "prompts_by_words": {"3": 3},
    "prompts_by_tenths_of_score": {"60": 1, "61": 2},
    "prompts_by_source": {"web": 2, "mine": 1},
    "truncated": 0,
    "top_words": {"dog": 3},
    "largest_groups": [[4, "a | dog"]],
    "cuts": {"6.25": 2},
    "candidate_pairs": 0,
    "notes": ["left out b.parquet: b.parquet is truncated"],
}


def test_a_bar_is_as_long_as_its_rows(tmp_path):
    write_summary(STATISTICS, tmp_path)
    funnel = (tmp_path / "summary.html").read_text().partition('id="histograms"')[0]
    assert re.findall(r'class="share"><span style="width: ([\d.]+)%', funnel) == ["100.0", "25.0", "0.0"]


def test_a_histogram_joins_values_into_equal_bars():
    bars = histogram({str(value): 1 for value in range(100)})
    assert [bar.count for bar in bars] == [5] * 20
    assert (bars[0].label, bars[-1].label) == ("0 to 4", "95 to 99")
    assert [bar.label for bar in histogram({"60": 1, "62": 4}, scale=0.1)] == ["6.0 to 6.1", "6.1 to 6.2", "6.2 to 6.3"]
    assert [(bar.label, bar.share) for bar in histogram({"3": 2, "4": 1})] == [("3", 1.0), ("4", 0.5)]
    assert histogram({}) == []


def test_a_few_far_values_do_not_flatten_a_histogram():
    bars = histogram({"-9999": 1, **{str(value): 1000 for value in range(60, 70)}, "10000": 2}, scale=0.1)
    assert [(bar.label, bar.count) for bar in bars[:2]] == [("under 6.0", 1), ("6.0 to 6.1", 1000)]
    assert [(bar.label, bar.count) for bar in bars[-2:]] == [("6.9 to 7.0", 1000), ("7.0 or more", 2)]
    assert len(bars) == 12
    bars = histogram({"1": 1000, "90": 1000, "1000": 1})
    assert (bars[0].label, bars[-2].label, bars[-1].label) == ("1 to 4", "89 to 92", "93 or more")
    assert sum(bar.count for bar in bars) == 2001


def test_texts_are_texts_on_the_page_and_in_the_markdown(tmp_path):
    write_summary(STATISTICS, tmp_path)
    page = (tmp_path / "summary.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "a &lt;b&gt;blue&lt;/b&gt; cat" in page
    assert "b.parquet is truncated" in page
    assert "http" not in page
    markdown = (tmp_path / "summary.md").read_text()
    assert "```` <script>alert(1)</script> ``` `x` ````" in markdown
    assert "| score | a score | 100 | 25 | 75 |" in markdown
    assert "- ` a <b>blue</b> cat ` (score 5)" in markdown
    assert "| 4 | ` a \\| dog ` |" in markdown
    assert "` dog ` 3" in markdown
    for text in (page, markdown):
        assert "0 prompts have more than the 75 tokens" in text


def test_equal_statistics_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_summary(STATISTICS, tmp_path / name)
    for name in ("summary.html", "summary.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
