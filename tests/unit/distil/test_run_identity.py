from __future__ import annotations

from sidlsg.distil.run_identity import RunIdentity


def test_equal_parts_have_one_key_in_any_order() -> None:
    assert RunIdentity({"a": "1", "b": "2"}).key == RunIdentity({"b": "2", "a": "1"}).key
    assert RunIdentity({"a": "1"}).key != RunIdentity({"a": "2"}).key


def test_differences_are_named_on_both_sides() -> None:
    ours, theirs = (
        RunIdentity({"lr": "1e-06", "code": "c" * 64}),
        RunIdentity({"lr": "2e-06", "code": "d" * 64, "x": "1"}),
    )
    assert ours.differences(theirs) == [
        "code is cccccccccccc… here and dddddddddddd… there",
        "lr is 1e-06 here and 2e-06 there",
        "x is not known here and 1 there",
    ]
    assert ours.differences(ours) == []
