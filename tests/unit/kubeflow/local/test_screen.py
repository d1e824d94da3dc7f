import io
import re

from sidlsg.kubeflow.local.output import Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_without_a_terminal_every_line_is_plain() -> None:
    file = io.StringIO()
    screen = Screen(file)
    screen.stage_started("distil")
    screen.note("a [note] with brackets that is longer than eighty columns, which must not be wrapped at all, ever")
    screen.progress("distil", 50, "4/8 images")
    screen.stage_done("distil", "done in 3.1 s")
    screen.stage_started("distil", "lsg kappa=2")
    screen.stage_done("distil", "done in 3.2 s", "lsg kappa=2")
    screen.close()
    assert file.getvalue().splitlines() == [
        "distil ...",
        "  a [note] with brackets that is longer than eighty columns, which must not be wrapped at all, ever",
        "  distil 50%: 4/8 images",
        "distil ... done in 3.1 s",
        "lsg kappa=2: distil ...",
        "lsg kappa=2: distil ... done in 3.2 s",
    ]


def test_a_terminal_shows_one_bar_that_goes_away() -> None:
    file = Terminal()
    screen = Screen(file)
    screen.stage_started("distil")
    screen.progress("distil", 50, "4/8 images, ETA 0:01")
    screen.note("noted")
    screen.stage_done("distil", "done in 3.1 s")
    before = file.tell()
    screen.close()
    assert file.tell() == before
    shown = plain(file.getvalue())
    assert "━" in shown
    assert "4/8 images, ETA 0:01" in shown
    assert "  noted\n" in shown
    assert shown.rstrip().endswith("distil ... done in 3.1 s")
    # The bar's line is erased before the last line is written.
    assert "\x1b[2K" in file.getvalue()


def test_a_terminal_s_bar_says_which_setting_runs() -> None:
    file = Terminal()
    screen = Screen(file)
    screen.stage_started("distil", "lsg kappa=2")
    screen.progress("distil", 50, "4/8 images")
    screen.close()
    shown = plain(file.getvalue())
    assert shown.count("lsg kappa=2: distil") >= 2
    assert "4/8 images" in shown
