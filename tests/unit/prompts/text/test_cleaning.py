import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidlsg.prompts.text.cleaning import clean_all
from sidlsg.prompts.text.keys import same_text_key


def clean(text):
    return clean_all(pl.Series([text])).item()


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("salt &amp; pepper &#39;n&#x27; oil", "salt & pepper 'n' oil"),
        ("R&D", "R&D"),
        ("‘it’s’ “so” «fine» 5′ 6″", '\'it\'s\' "so" "fine" 5\' 6"'),
        ("ﬁne ＣＡＦＥ\u0301 ①", "fine CAFÉ 1"),
        ("a <b>red</b><br/>dog<!-- not seen -->", "a red dog"),
        ("3 < 5 > 4, I <3 you", "3 < 5 > 4, I <3 you"),
        ("see HTTPS://example.invalid/a?b=c now www.example.invalid", "see now"),
        ("awww.cute http and ftp", "awww.cute http and ftp"),
        ("a\x00b\u200bc\u202ed\ue000e\ufefff", "a bcdef"),
        ("an emoji 🐈 and 漢字", "an emoji 🐈 and 漢字"),
        ("\t a\u00a0 b\r\n\u3000c ", "a b c"),
        ('"a red dog"', "a red dog"),
        ('"a" or "b"', '"a" or "b"'),
        ('"', '"'),
        # Several rules together.
        ("&amp;lt;b&amp;gt;bold&amp;lt;/b&amp;gt;", "bold"),
        ("＆ｌｔ;i＆ｇｔ; x", "x"),
        ('  &quot; <p>A  “nice” day</p> " ', '" A "nice" day "'),
        ("“A nice day”", "A nice day"),
        ("\"'nested'\"", "nested"),
        ("https://example.invalid/a.jpg", ""),
        ("<br/>&nbsp;\t", ""),
        ("a\u200b\u0301", "á"),
        ("a <!-- not <i>seen</i> --> dog", "a dog"),
    ],
)
def test_each_rule_alone_and_with_others(dirty, expected):
    assert clean(dirty) == expected


# Halves of entities, tags and addresses, and characters that change under NFKC or case folding.
SEEN = "&amp; & amp; lt; &lt; &quot; &# &#xfdfa; # 38; x26; < > b / <b> http :// www. ' \" “ ″ ´ ﷺ ＆ ＜ İ ß"
PIECES = st.sampled_from([*SEEN.split(), *"\u200b\u0301\x00 "])
DIRTY = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))


@given(DIRTY)
@example("&amp;amp;amp;lt;br&amp;gt;")
def test_cleaning_twice_is_cleaning_once(text):
    assert clean(clean(text)) == clean(text)


@given(DIRTY)
def test_clean_text_is_one_trimmed_line_without_controls(text):
    cleaned = clean(text)
    assert cleaned == cleaned.strip()
    assert not any(character in cleaned for character in "\n\r\t\x00\u200b“”")
    assert "  " not in cleaned
    assert "http://" not in cleaned.lower()


@given(DIRTY)
def test_keys_ignore_what_they_should(text):
    key = same_text_key(clean(text))
    assert same_text_key(key) == key


@pytest.mark.parametrize(
    "emoji",
    [
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
        "\U0001f469\U0001f3fd\u200d\U0001f680",  # an astronaut with a skin tone
        "\u2764\ufe0f\u200d\U0001f525",  # a heart on fire
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # England's flag
        "1\ufe0f\u20e3",  # a key
        "\u00a9\ufe0f",
    ],
)
def test_invisible_characters_inside_emoji_stay(emoji):
    assert clean(f"a {emoji} b") == f"a {emoji} b"
    assert clean(emoji) == emoji


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("a\u200db", "ab"),
        ("\u200d\U0001f680\u200d", "\U0001f680"),
        ("\U0001f469\u200d\u200b\U0001f680", "\U0001f469\U0001f680"),
        ("a\ufe0f 1\ufe0f \u2122\ufe0f", "a 1 TM"),
        ("\U000e0067\U000e007f a dog", "a dog"),
    ],
)
def test_invisible_characters_outside_emoji_go(dirty, expected):
    assert clean(dirty) == expected


def test_same_text_key_ignores_case_only():
    assert same_text_key("STRASSE") == same_text_key("straße")
    assert same_text_key("a dog") != same_text_key("a dog.")
