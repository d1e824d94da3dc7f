"""What a gate and a promotion came to, in a few lines of Markdown for Kubeflow's page of a run."""

from __future__ import annotations

from sidlsg.runtime.formatting import plain_markdown
from sidlsg.storage.records import Promotion, Verdict


def verdict_markdown(verdict: Verdict, awaits_approval: bool = False) -> str:
    """Whether a version passed, and each rule with what was found, those that failed first.

    Args:
        verdict: of the gate.
        awaits_approval: whether an approval is all that the version lacks.
    """
    outcome = "Passed" if verdict.passed else "Awaits an approval" if awaits_approval else "Rejected"
    against = "no champion yet" if verdict.champion_version is None else f"champion: version {verdict.champion_version}"
    rows = [
        f"| {'yes' if rule.passed else '**no**'} | {plain_markdown(rule.rule)} | {plain_markdown(rule.found)} |"
        for rule in sorted(verdict.rules, key=lambda rule: rule.passed)
    ]
    return "\n".join(
        [
            f"# {outcome}: {_named(verdict)} ({against})",
            "",
            "| met | rule | found |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def promotion_markdown(promotion: Promotion, verdict: Verdict) -> str:
    """Whether the alias moved, and where it points now."""
    if promotion.changed:
        title = f"# Promoted: {_named(verdict)} is the champion"
    elif verdict.passed:
        title = f"# Unchanged: {_named(verdict)} was the champion already"
    else:
        title = f"# Not promoted: {_named(verdict)} did not pass the gate"
    now, before = promotion.champion_version, promotion.previous_version
    champion = "no champion" if now is None else f"champion: version {now}"
    return f"{title}\n\n{champion}; {'no previous one' if before is None else f'previous one: version {before}'}\n"


def _named(verdict: Verdict) -> str:
    return f"version {verdict.version} of {plain_markdown(verdict.name)}"
