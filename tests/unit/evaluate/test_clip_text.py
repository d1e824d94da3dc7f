"""The prefix's tokens, with ids worked out by hand."""

from __future__ import annotations

import pytest
import torch

from sidlsg.evaluate.clip_networks import insert_prefix
from sidlsg.runtime.errors import InputError

START, END = 100, 101
PREFIX = [7, 8, 9]


def rows(*texts: list[int]) -> torch.Tensor:
    return torch.tensor(texts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Room enough: the padding moves out.
        ([START, 1, 2, END, 0, 0, 0, 0], [START, 7, 8, 9, 1, 2, END, 0]),
        # The end token comes to lie on the last position.
        ([START, 1, 2, 3, END, 0, 0, 0], [START, 7, 8, 9, 1, 2, 3, END]),
        # One word too many: it gives its place to the end token.
        ([START, 1, 2, 3, 4, END, 0, 0], [START, 7, 8, 9, 1, 2, 3, END]),
        # A text that was cut already.
        ([START, 1, 2, 3, 4, 5, 6, END], [START, 7, 8, 9, 1, 2, 3, END]),
        # No text at all.
        ([START, END, 0, 0, 0, 0, 0, 0], [START, 7, 8, 9, END, 0, 0, 0]),
    ],
)
def test_it_comes_after_the_start_and_the_end_stays(text: list[int], expected: list[int]) -> None:
    given = rows(text)
    assert insert_prefix(given, PREFIX, END).tolist() == [expected]
    assert given.tolist() == [text]


def test_each_row_is_by_itself() -> None:
    found = insert_prefix(rows([START, 1, 2, 3, END], [START, 1, END, 0, 0]), [7], END)
    assert found.tolist() == [[START, 7, 1, 2, END], [START, 7, 1, END, 0]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="a prefix of 3 tokens does not fit into 4"):
        insert_prefix(rows([START, END, 0, 0]), PREFIX, END)
    with pytest.raises(InputError, match=r"without an end token \(101\)"):
        insert_prefix(rows([START, 1, 2, 3, 0, 0, 0, 0]), PREFIX, END)
