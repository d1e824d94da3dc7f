"""Pydantic's own wording never reaches a user."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, TypeAdapter, ValidationError

from sidlsg.runtime.validation import first_mistake, mistake


class Closed(BaseModel, extra="forbid"):
    count: int


def even(value: int) -> int:
    if value % 2:
        raise ValueError("give an even one")
    return value


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "x", "n is 'x'; give a whole number"),
        (int, 2.5, "n is 2.5; give a whole number"),
        (float, "x", "n is 'x'; give a number"),
        (float, {"password": "p"}, "n is a table; give a number"),
        (FiniteFloat, float("nan"), "n is nan; give a finite number"),
        (bool, "x", "n is 'x'; give true or false"),
        (str, 3, "n is 3; give a text"),
        (list[int], 3, "n is 3; give a list"),
        (tuple[int, ...], 3, "n is 3; give a list"),
        (dict[str, int], 3, "n is 3; give a table"),
        (Closed, 3, "n is 3; give a table"),
        (Closed, {}, "n is missing; give it"),
        (Closed, {"count": 1, "more": 2}, "n is unknown; remove it"),
        (None, 3, "n is 3; give None"),
        (Literal["a", "b"], "c", "n is 'c'; give 'a' or 'b'"),
        (Annotated[int, Field(ge=1)], 0, "n is 0; give a number of at least 1"),
        (Annotated[float, Field(gt=0)], -1.5, "n is -1.5; give a number above 0"),
        (Annotated[float, Field(le=1)], 2, "n is 2; give a number of at most 1"),
        (Annotated[float, Field(lt=1)], 1, "n is 1; give a number below 1"),
        (Annotated[str, Field(min_length=1)], "", "n is ''; give a text of length 1 or more"),
        (Annotated[str, Field(pattern="^a$")], "b", "n is 'b'; give a text that matches ^a$"),
        (Annotated[list[int], Field(min_length=1)], [], "n is []; give a list of length 1 or more"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "n is [1, 2]; give a list of length 1 or less"),
        (Annotated[int, AfterValidator(even)], 3, "n is 3; give an even one"),
        (str, list("x" * 99), f"n is {str(list('x' * 99))[:100]}…; give a text"),
    ],
)
def test_a_mistake_in_words(kind: Any, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert mistake(dict(caught.value.errors()[0]), "n") == words


def test_a_text_that_is_no_json() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_json("{")
    assert first_mistake(caught.value, "the body").startswith("the body is not JSON: ")
