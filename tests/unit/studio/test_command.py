"""What `sidlsg studio` refuses before it serves anything."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

Run = Callable[..., tuple[int, str, str]]


def test_a_missing_extra_is_named(sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, said = sidlsg("studio", "runs/demo")
    assert code == 2
    assert "gradio is not installed, which makes the page; pip install 'sidlsg[studio]'" in said


def test_what_is_no_student_is_one_line(sidlsg: Run) -> None:
    code, _, said = sidlsg("studio", "runs/none", "--port", "17861")
    assert code == 2
    assert said.startswith("error: there is no folder runs/none; give the folder of a run or of a student")


def test_another_address_without_a_token_is_refused(sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDLSG_STUDIO_TOKEN", raising=False)
    code, _, said = sidlsg("studio", "runs/demo", "--address", "0.0.0.0")
    assert code == 2
    assert "give --secret-file, or set SIDLSG_STUDIO_TOKEN" in said
