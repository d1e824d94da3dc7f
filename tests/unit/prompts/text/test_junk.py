import unicodedata

import polars as pl
import pytest

from sidlsg.prompts.rules import JunkRule
from sidlsg.prompts.text.cleaning import clean_all
from sidlsg.prompts.text.junk import junk_reason

OFF = {"maximum_repeats": 1, "maximum_digits": 1, "capitals_words": 0, "minimum_letters": 0}
REPEATS = JunkRule(**OFF | {"maximum_repeats": 0.3})
DIGITS = JunkRule(**OFF | {"maximum_digits": 0.1})


def reason(text, **limits):
    return junk_reason(pl.Series([text], dtype=pl.String), JunkRule(**limits)).item()


@pytest.mark.parametrize(
    "name",
    [
        *("IMG_1234.jpg", "IMG_1234", "DSC-0001", "DSCN0042.JPG", "photo_2019-01-01.png", "image (3).png", "scan 12"),
        *("red-dog-on-a-beach.jpeg", "Screenshot 2020-01-02 at 10.11.12", "日本.webp", "pxl_20210101_120000"),
    ],
)
def test_file_names_are_junk(name):
    assert reason(name) == "file name"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sale Sale SALE sale now", "repeats"),
        ("dog cat dog bird dog", "repeats"),
        ("dog dog dog dog", None),  # four words are too few
        ("a dog and a cat and a bird", None),
        ("0123 4567 89 ab", "digits"),
        ("12-34-56-78-90 cm", "digits"),
        ("1 2 3 4 5 6 7 a b c", "digits"),
        ("a house of 1925 in Rome", None),
        ("BUY THE NEW RED CAR TODAY", "capitals"),
        ("BUY THE NEW RED CAR", None),
        ("BUY THE NEW RED CAR TODAy", None),
        ("1 2 漢字 漢 字 A B C D E F G", None),  # Chinese has no small letters
        ("★☆★☆ a ★☆★☆", "symbols"),
        ("#a#b#c#", "symbols"),
        ("हिन्दी में एक वाक्य", None),
        ("🐈", "symbols"),
        ("", None),
        (None, None),
        ("image of a dog", None),
        ("photo by Anna", None),
    ],
)
def test_reasons(text, expected):
    assert reason(text) == expected


def test_the_first_reason_is_given_row_by_row():
    texts = pl.Series(["a dog", "IMG_1.jpg", None, "A A A A A A", "12"])
    assert junk_reason(texts, JunkRule()).to_list() == [None, "file name", None, "capitals", "digits"]


def test_limits_are_those_of_the_rule():
    assert reason("a a a a b c d e f g", maximum_repeats=0.3) == "repeats"
    assert reason("a a a a b c d e f g", maximum_repeats=0.4) is None
    assert reason("a house of 1925", maximum_digits=0.2) == "digits"
    assert reason("BUY THE NEW RED CAR TODAY", capitals_words=0) is None
    assert reason("a, b, c, d", minimum_letters=0.9) == "symbols"


def test_guards_change_nothing(captions):
    cleaned = clean_all(captions)
    for text, got in zip(cleaned.to_list(), junk_reason(cleaned, REPEATS), strict=True):
        words = text.lower().split(" ")
        assert (got == "repeats") == (len(words) >= 5 and max(map(words.count, words)) / len(words) > 0.3)
    for text, got in zip(cleaned.to_list(), junk_reason(cleaned, DIGITS), strict=True):
        digits = sum(c in "0123456789" for c in text)
        letters = sum(unicodedata.category(c)[0] in "LMN" for c in text)
        if got != "file name":
            assert (got == "digits") == (digits > 0.1 * letters)
