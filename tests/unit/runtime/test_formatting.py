"""Somebody else's words in Markdown."""

from __future__ import annotations

import pytest

from sidlsg.registry.score_log import description
from sidlsg.runtime.formatting import plain_markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("openrail", "openrail"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a\n# heading", r"a \# heading"),
        ("[here](http://x)", r"\[here\](http://x)"),
        ("a|b", r"a\|b"),
        ("`code` *bold* _low_ ~gone~", r"\`code\` \*bold\* \_low\_ \~gone\~"),
        ("back\\slash", r"back\\slash"),
        ("\x1b[2J\u202e", r"\\x1b\[2J\\u202e"),
    ],
)
def test_words_mean_nothing_but_themselves(text: str, shown: str) -> None:
    assert plain_markdown(text) == shown


def test_no_tag_of_a_version_is_markup_on_its_page() -> None:
    names = ["recipe", "strategy", "kappas", "images_seen", "license", "teacher_model", "hardware", "rule.1", "score/x"]
    page = description(dict.fromkeys(names, "<img src=x>\n# [a](b)") | {"verdict": "passed"})
    assert "<" not in page
    assert page.count(r"\[a\](b)") == len(names)
