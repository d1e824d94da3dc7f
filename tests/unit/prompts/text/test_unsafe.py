import re
from pathlib import Path

import polars as pl
import pytest

from sidlsg.prompts.text.cleaning import clean_all
from sidlsg.prompts.text.junk import UnsafeWords, read_unsafe_words
from sidlsg.runtime.errors import InputError

BUNDLED = Path("assets/prompts/unsafe_words.txt")
WORDS = UnsafeWords(("nude", "porn", "self harm", "crude-oil", "Café noir"))


def found(text, words=WORDS):
    return words.found(clean_all(pl.Series([text], dtype=pl.String))).item()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *[(text, "nude") for text in ("nude", "a NUDE.", "two nudes", "the nude-ish", "file_nude_1", "nude's")],
        *[
            (text, "nude")
            for text in ("nüde", "ｎｕｄｅ", "nu\u200bde", "nudе", "nυde", "n\u0301ude", "日本nude", "NÜDES")
        ],
        *[(text, "nude") for text in ("n u d e", "a n u d e woman", "n.u.d.e", "N-U-D-E", "n_u_d_e!", "n u d e s")],
        *[(text, "self harm") for text in ("self harm", "self-harm", "selfharm", "Self_harms")],
        *[(text, "crude-oil") for text in ("crude oil", "crude-oils")],
        *[(text, "Café noir") for text in ("CAFE NOIR", "café noir")],
        *[(text, None) for text in ("denude", "nudel", "nuderma", "a n u", "J. R. R. Tolkien", "U.S.A.", "", None)],
        *[(text, None) for text in ("Москва", "порно", "self with harm", "p o r t", "self  of harm", "A B C D E F")],
    ],
)
def test_words_are_found_however_they_are_written(text, word):
    assert found(text) == word


def test_rows_are_judged_independently():
    texts = pl.Series("caption", ["a dog", "porn", None, "p.o.r.n", "pörn", "a nude"])
    result = WORDS.found(texts)
    assert result.to_list() == [None, "porn", None, "porn", "porn", "nude"]
    assert result.dtype == pl.String
    assert WORDS.found(texts[:0]).to_list() == []


def test_words_are_no_patterns():
    words = UnsafeWords(("c++ (x)", "a.b"))
    assert found("some c++ (x) here", words) == "c++ (x)"
    assert found("axb", words) is None


def test_a_list_is_read_without_comments(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeff# title\nnude # of persons\n\n self harm \r\nnude\n".encode())
    assert read_unsafe_words(path) == ("nude", "self harm")


def test_an_unusable_list_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no list of unsafe words at"):
        read_unsafe_words(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    with pytest.raises(InputError, match="has comments alone"):
        read_unsafe_words(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match=r"not UTF-8 \(byte 3\)"):
        read_unsafe_words(tmp_path / "latin.txt")
    with pytest.raises(InputError, match="no unsafe word has a letter"):
        UnsafeWords(("--",))


@pytest.fixture(scope="module")
def bundled():
    return UnsafeWords(read_unsafe_words(BUNDLED))


INNOCENT = """
Welcome to Scunthorpe | Essex and Sussex countryside | grilled chicken breast recipe | a blue tit on a branch
great tits at the feeder | cocktail with lime | a cock and two hens in the yard | Dick Van Dyke in Mary Poppins
nude pumps with ankle strap | nude lipstick swatches | bare feet on the sand | breast cancer awareness ribbon
shot on film | gunshot scope | bloody mary cocktail | blood orange juice | killer whale jumping
Assassin's Creed wallpaper | class of 2019 graduation | bass guitar | grass field | Pussy willow branches in a vase
pussycat on a wall | hooker valley track, New Zealand | Middlesex University | same-sex wedding cake
sexton beetle | rapeseed field in bloom | grape vines | Al Gore speaking at a conference | Gore-Tex hiking boots
Suicide Squad poster | naked cake with berries | white power bank 10000 mAh | wire stripper | brass pipe nipple
horny toad in the desert | skull tattoo design | hangman game | cutting board | suit and tie | Virgin Mary statue
shiitake mushrooms | Penistone railway station | analysis of data | therapist office | escort mk2 rally car
strip of land | adult coloring book | Hitler biography book cover | spick and span kitchen | chink in the curtain
cumin and cumulus clouds | a model in a swimsuit
"""


# "nude" alone is often the colour, so the list has it only in phrases.
@pytest.mark.parametrize("text", re.split(r" \| |\n", INNOCENT.strip()))
def test_innocent_captions_pass_the_bundled_list(text, bundled):
    assert found(text, bundled) is None


@pytest.mark.parametrize(
    "text", ["naked men", "Hentai girls", "free PORN video", "nude-women", "beheaded corpse", "s.l.u.t", "self-harm"]
)
def test_unsafe_captions_do_not(text, bundled):
    assert found(text, bundled)


def test_the_bundled_list_is_moderate_and_lower_case():
    words = read_unsafe_words(BUNDLED)
    assert 100 <= len(words) <= 200
    assert all(word == word.lower() for word in words)
