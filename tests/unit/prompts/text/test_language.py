import polars as pl
import pytest

from sidlsg.prompts.rules import LanguageRule
from sidlsg.prompts.text.language import LANGUAGES, check_language, other_language
from sidlsg.runtime.errors import InputError


def drops(text, code=None, keep="en", detect=True):
    return other_language(pl.Series([text]), pl.Series([code], dtype=pl.String), keep, detect).item()


ENGLISH = [
    "a red dog on the beach",
    "Vintage Blue Ceramic Vase",
    "Portrait of Frida Kahlo by an unknown artist",
    "Café de Flore, Paris",
    "Kimchi fried rice with egg, 김치볶음밥",
    "Dvořák statue in Prague, Czech Republic",
    "The Great Wave off Kanagawa (神奈川沖浪裏) by Hokusai",
    "Crème brûlée with raspberries",
    "🐈",
    "123 456",
    "Black leather jacket with silver zips for men",
    "Vintage Ceramic Vase Blue Large Handmade",
    "Modern Living Room Interior Design Ideas",
    "Mens Cotton Crew Neck Tee Navy Blue",
    "Albert Einstein Portrait Pencil Drawing Sketch",
    "Leonardo da Vinci Mona Lisa Reproduction",
    "Rio de Janeiro, Copacabana, beautiful sunset",
    "Antonín Dvořák statue in Prague, Czech Republic",
    "Old wooden bridge over small river, autumn leaves",
]
OTHERS = [
    "un chien rouge sur la plage avec des enfants",
    "ein roter Hund liegt am Strand unter blauem Himmel",
    "un perro rojo en la playa junto al mar",
    "een rode hond ligt aan het strand onder blauwe lucht",
    "красная собака лежит на пляже",
    "собака",
    "赤い犬が海辺に座っている",
    "猫",
    "海边的一只红色的狗",
    "해변에 있는 빨간 개",
    "कुत्ता समुद्र तट पर",
    "كلب أحمر على الشاطئ",
    "σκύλος στην παραλία",
    "כלב אדום על החוף",
    "um cachorro vermelho deitado na praia ao lado do mar",
    "un cane rosso sulla spiaggia accanto al mare",
    "en röd hund ligger på stranden under blå himmel",
    "kumsalda yatan kırmızı bir köpek ve mavi gökyüzü",
    "một con chó màu đỏ trên bãi biển",
]


@pytest.mark.parametrize("text", ENGLISH)
def test_english_stays(text):
    assert not drops(text)


@pytest.mark.parametrize("text", OTHERS)
def test_other_languages_go(text):
    assert drops(text)


@pytest.mark.parametrize("text", ["chien rouge", "ein roter Hund", "Café"])
def test_short_texts_in_the_same_script_stay(text):
    assert not drops(text)


@pytest.mark.parametrize("code", ["en", "eng", "EN", "english", "English", "en-US", "en_GB", " en "])
def test_codes_of_english(code):
    assert not drops(OTHERS[0], code)
    assert drops(ENGLISH[0], code, keep="de")


@pytest.mark.parametrize("code", ["fr", "fra", "fre", "French", "zh-CN", "pl", "pol"])
def test_codes_of_other_languages(code):
    assert drops(ENGLISH[0], code)
    assert drops(ENGLISH[0], code, detect=False)


@pytest.mark.parametrize("code", [None, "", "nolang", "und", "unknown", "?", "n/a", "12"])
def test_without_a_known_code_the_text_decides(code):
    assert drops(OTHERS[0], code)
    assert not drops(ENGLISH[0], code)
    assert not drops(OTHERS[0], code, detect=False)


@pytest.mark.parametrize(
    ("text", "keep", "dropped"),
    [
        ("ein roter Hund liegt am Strand unter blauem Himmel", "de", False),
        ("a red dog lies on the beach under a blue sky", "de", True),
        ("красная собака лежит на пляже", "ru", False),
        ("a dog", "ru", True),
        ("赤い犬が海辺に座っているのが見える", "ja", False),
        ("海边的一只红色的狗在沙滩上跑步", "ja", True),
        ("海边的一只红色的狗在沙滩上跑步", "zh", False),
        ("赤い犬が海辺に座っているのが見える", "zh", True),
    ],
)
def test_other_languages_may_be_kept(text, keep, dropped):
    assert drops(text, keep=keep) == dropped


def test_rows_are_judged_independently():
    texts = pl.Series([ENGLISH[0], OTHERS[0], OTHERS[1], None, ENGLISH[1]])
    codes = pl.Series(["fr", "en", None, None, None], dtype=pl.String)
    assert other_language(texts, codes, "en", True).to_list() == [True, False, True, False, False]
    assert other_language(texts[:0], codes[:0], "en", True).to_list() == []


def test_a_language_that_the_detector_does_not_know_is_refused_unless_columns_decide():
    with pytest.raises(InputError, match=r"'pl', which the detector does not know; give one of ar, de, en"):
        check_language(LanguageRule(keep="pl"))
    check_language(LanguageRule(keep="pl", detect=False))
    assert not drops("pies", "pl", keep="pl", detect=False)
    assert drops("dog", "en", keep="pl", detect=False)


def test_the_table_has_all_of_the_detector():
    assert len(LANGUAGES) == 16
