import pytest

from sidlsg.runtime.progress import note as say


def test_a_line_for_the_user_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    assert capsys.readouterr().out == "note: hello\n"
