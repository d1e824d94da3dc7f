"""Exit codes, and the name that was probably meant."""

from __future__ import annotations

import pytest

from sidlsg.runtime.errors import InputError, SidlsgError, VerdictError, nearest


def test_each_kind_of_error_has_its_exit_code() -> None:
    assert (SidlsgError.exit_code, InputError.exit_code, VerdictError.exit_code) == (1, 2, 3)
    assert issubclass(InputError, SidlsgError)
    assert issubclass(VerdictError, SidlsgError)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tinny", " (did you mean 'tiny'?)"),
        ("sd15-kappa2", " (did you mean 'sd15_kappa2'?)"),
        ("xyzzy", ""),
        ("", ""),
    ],
)
def test_a_near_name_is_suggested_and_a_far_one_is_not(given: str, expected: str) -> None:
    assert nearest(given, ["tiny", "sd15_kappa2", "sd21_base"]) == expected


def test_a_misspelt_beginning_of_a_long_name_is_nearer_than_another_short_one() -> None:
    names = ["captions", "inception-2015-12-05", "hpsv2-v2.0", "hpsv2-prompts", "reference-clean"]
    for given, expected in (
        ("inceptoin", "inception-2015-12-05"),
        ("Inception", "inception-2015-12-05"),
        ("INCEPTION-2015-12-05", "inception-2015-12-05"),
        ("caption", "captions"),
        ("referense", "reference-clean"),
        ("hpsv2-prompt", "hpsv2-prompts"),
    ):
        assert nearest(given, names) == f" (did you mean {expected!r}?)"
    # One letter is the beginning of too many.
    assert nearest("r", names) == ""


def test_no_names_have_no_nearest() -> None:
    assert nearest("tiny", []) == ""
