"""What Kubeflow's page of a run shows of a gate and a promotion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidlsg.report.markdown import promotion_markdown, verdict_markdown
from sidlsg.storage.records import Promotion, RuleResult, Verdict

GOOD = RuleResult(rule="attributes of student 1 step at least 0.9", found="0.95 of 2,016", passed=True)
BAD = RuleResult(rule="fid | at most 12", found="14.2 [13.9, 14.6]", passed=False)
VERDICT = Verdict(
    name="sd_15",
    version=7,
    champion_version=4,
    scorecard_sha256="1" * 64,
    rules_sha256="2" * 64,
    passed=False,
    rules=(GOOD, BAD),
)


def test_a_rejection_is_plain_and_begins_with_its_reasons() -> None:
    heading, _, _, _, first, second, *_ = verdict_markdown(VERDICT).splitlines()
    assert heading == "# Rejected: version 7 of sd\\_15 (champion: version 4)"
    # A bar of a rule begins no column.
    assert first.startswith("| **no** | fid ")
    assert first.replace("\\|", "").count("|") == 4
    assert second.startswith("| yes | attributes ")


def test_the_first_version_has_no_champion_to_compare_with() -> None:
    passed = replace(VERDICT, passed=True, champion_version=None, rules=(GOOD,))
    assert verdict_markdown(passed).startswith("# Passed: version 7 of sd\\_15 (no champion yet)\n")


@pytest.mark.parametrize(
    ("passed", "changed", "said"),
    [(True, True, "Promoted"), (True, False, "Unchanged"), (False, False, "Not promoted")],
)
def test_a_promotion_says_whether_the_alias_moved(passed: bool, changed: bool, said: str) -> None:
    record = Promotion(name="sd_15", champion_version=7, previous_version=None, changed=changed)
    text = promotion_markdown(record, replace(VERDICT, passed=passed))
    assert text.startswith(f"# {said}: version 7 of sd\\_15")
    assert text.endswith("champion: version 7; no previous one\n")
