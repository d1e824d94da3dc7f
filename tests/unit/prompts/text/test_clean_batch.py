import re
import unicodedata

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidlsg.prompts.text.cleaning import STABLE, clean_all
from unit.prompts.text.references import clean

ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"])
SEEN = """
❤️ &amp; & amp; lt; &lt; gt; &quot; &# # 39; 38; &#39; &copy &nbsp; &#xfdfa; &eacute; &notin; < > b / ! <b> </p> 👩 🚀 🏴
http FTP 🏽 https s :// www. WWW . x _ 1 ² ' " ` “ ″ ´ « ﷺ ＆ ＜ ＃ ｗ ：// ／ ． İ ß ſ ﬁ ½ か ｶ ﾞ 각 ᄀ 漢 🐈 👍🏽
e é … –
"""
UNSEEN = (
    "\u200b\u200d\ufeff\u202e\ue000\u0301\u3099\u1161\u11a8\u212b\ufe0f\ufe0e\u20e3\U000e0067\U000e007f"
    " \t\n\r\x00\x1c\x1f\x85\u00a0\u2028\u3000\u1680\x7f"
)
PIECES = st.sampled_from([*SEEN.split(), *UNSEEN, "  "])
HOSTILE = st.one_of(st.text(ASSIGNED), st.lists(PIECES, max_size=14).map("".join))


@given(st.lists(HOSTILE, max_size=12))
@example(
    [
        "&amp;copy; a",
        "＆ｌｔ;i＆ｇｔ; x",
        "\"'nested'\"",
        "''",
        "é_www.x",
        "²www.x",
        "http\u200b://x y",
        "a\u200b\u0301",
    ]
)
@example(["ſs://x", "httpſ://x y", "x\x1cwww.a\x1cb", "www.www.a b", " www.a www.b ", "<\n>", "<a\nb>c", "&#39;a&#39;"])
def test_a_batch_is_cleaned_as_each_text_is(texts):
    assert clean_all(pl.Series(texts, dtype=pl.String)).to_list() == [clean(text) for text in texts]


def test_captions_are_cleaned_as_each_text_is(captions):
    assert clean_all(captions).to_list() == [clean(text) for text in captions]


def test_every_single_character_is_cleaned_as_the_reference_does():
    assigned = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) not in ("Cn", "Cs", "Co")]
    texts = [f"{before}{c}{after}" for c in assigned for before, after in (("a", "b"), ("www.x", "y "), ("", "www.x"))]
    assert clean_all(pl.Series(texts)).to_list() == [clean(text) for text in texts]


def test_no_rule_changes_a_stable_character_wherever_it_stands():
    everything = pl.Series([chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000])
    stable = everything.filter(everything.str.contains(rf"\A[{STABLE}]\z")).to_list()
    composed_last = {
        chr(int(parts[1], 16))
        for i in range(0x110000)
        for parts in [unicodedata.decomposition(chr(i)).split()]
        if len(parts) == 2 and not parts[0].startswith("<")
    }
    for character in stable:
        if unicodedata.category(character) == "Cn":
            continue  # of a later Unicode than this Python's
        assert clean(f"a{character}b") == f"a{character}b"
        assert unicodedata.combining(character) == 0
        assert character not in composed_last
        assert not re.match("[\u1161-\u1175\u11a8-\u11c2]", character)


@pytest.mark.parametrize("texts", [[], [None], ["a dog", None, " a  dog ", None]])
def test_nulls_stay(texts):
    series = pl.Series("caption", texts, dtype=pl.String)
    cleaned = clean_all(series)
    assert cleaned.to_list() == [None if text is None else clean(text) for text in texts]
    assert cleaned.name == "caption"
    assert cleaned.dtype == pl.String
    assert series.to_list() == texts
