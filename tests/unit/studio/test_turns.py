"""Turns: one at a time, and who goes first need not wait for a long one to end."""

from __future__ import annotations

import threading

from sidlsg.studio.turns import Turns

PATIENCE_S = 30


def test_a_turn_is_lent_to_those_that_go_first_and_comes_back():
    turns, order, asked = Turns(), [], threading.Event()

    def first():
        asked.set()
        with turns.taken(first=True):
            order.append("first")

    with turns.taken(first=False):
        order.append("began")
        thread = threading.Thread(target=first)
        thread.start()
        assert asked.wait(PATIENCE_S)
        while not turns.is_wanted:
            pass
        assert order == ["began"]
        assert turns.lend() > 0
        order.append("ended")
    thread.join(PATIENCE_S)
    assert order == ["began", "first", "ended"]
    assert not turns.is_wanted


def test_a_failure_gives_the_turn_back():
    turns = Turns()
    for first in (True, False, True):
        try:
            with turns.taken(first=first):
                raise ValueError
        except ValueError:
            assert not turns.is_wanted
