"""Values replaced by name: what fits, what does not, and what the message says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.overrides import parse_changes, with_changes


@dataclass(frozen=True)
class Values:
    name: str = "tiny"
    count: int = 3
    rate: float = 0.5
    loud: bool = False
    scales: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise InputError(f"count is {self.count}; it must be 0 or more")


def test_values_are_replaced_and_the_rest_stays() -> None:
    changed = with_changes(Values(), {"count": 7, "rate": 2, "loud": True, "scales": {"kappa": 1.5}})
    assert changed == Values("tiny", 7, 2, True, {"kappa": 1.5})
    assert with_changes(Values(), {}) == Values()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count": "7"}, "count is '7'; it must be of kind int, like 3"),
        ({"count": 7.0}, "count is 7.0; it must be of kind int"),
        ({"count": True}, "count is True; it must be of kind int"),
        ({"rate": "fast"}, "rate is 'fast'; it must be of kind float"),
        ({"rate": False}, "rate is False; it must be of kind float"),
        ({"loud": 1}, "loud is 1; it must be of kind bool"),
        ({"name": 3}, "name is 3; it must be of kind str"),
        ({"scales": 1.5}, "scales is 1.5; it must be of kind dict"),
        ({"count": None}, "count is None; it must be of kind int"),
        ({"cuont": 3}, r"Values has no value 'cuont' \(did you mean 'count'\?\); it has: count, loud, name"),
        ({"xyzzy": 3}, "Values has no value 'xyzzy'; it has"),
        ({"count": -1}, "count is -1; it must be 0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_changes(Values(), changes)


def test_fixed_names_are_as_unknown_as_others() -> None:
    with pytest.raises(InputError, match=r"has no value 'name'.*; it has: count, loud, rate, scales$"):
        with_changes(Values(), {"name": "other"}, fixed=("name",))


def test_changes_are_read_from_json() -> None:
    assert parse_changes('{"count": 4, "scales": {"kappa": 2}}') == {"count": 4, "scales": {"kappa": 2}}


@pytest.mark.parametrize("text", ["", "{", "count=4", "[1]", "3", "null", '"count"'])
def test_other_text_is_refused_with_one_line(text: str) -> None:
    with pytest.raises(InputError, match="are not") as caught:
        parse_changes(text)
    assert "\n" not in str(caught.value)
