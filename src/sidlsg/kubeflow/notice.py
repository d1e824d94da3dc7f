"""A notice: what one failed or rejected run tells a webhook, as JSON within bounds."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sidlsg.runtime.texts import plain_line

LONGEST = 1000
"""Characters of an error."""
LONGEST_RULE = 300
MOST_RULES = 20


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A version that the gate rejected."""

    name: str
    version: int
    rules: tuple[str, ...]
    """The rules that were not met, each with what was found."""
    awaits_approval: bool = False
    """Whether an approval is all that it lacks."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One failed or rejected run."""

    kind: Literal["failed", "rejected"]
    pipeline: str
    run: str
    run_url: str = ""
    """Empty where the address of Kubeflow's pages is not known."""
    step: str = ""
    """The step that failed; empty where it is not known."""
    error: str = ""
    rejected: tuple[Rejected, ...] = ()

    @property
    def id(self) -> str:
        """The same for every try to send the notice of this run."""
        return f"sidlsg-{self.run}"

    def payload(self) -> dict[str, Any]:
        """The JSON object to send: every text is one plain line within its bound."""
        cleaned = Notice(
            kind=self.kind,
            pipeline=plain_line(self.pipeline, LONGEST_RULE),
            run=plain_line(self.run, LONGEST_RULE),
            run_url=self.run_url,
            step=plain_line(self.step, LONGEST_RULE),
            error=plain_line(self.error, LONGEST),
            rejected=tuple(
                Rejected(
                    name=plain_line(each.name, LONGEST_RULE),
                    version=each.version,
                    rules=tuple(plain_line(rule, LONGEST_RULE) for rule in each.rules[:MOST_RULES]),
                    awaits_approval=each.awaits_approval,
                )
                for each in self.rejected
            ),
        )
        # Slack reads &, < and > as the beginning of something; mrkdwn=false lets it leave the rest alone.
        return {"id": cleaned.id, **asdict(cleaned), "text": html.escape(cleaned.words, quote=False), "mrkdwn": False}

    @property
    def words(self) -> str:
        """The notice for people, in a few lines."""
        lines = []
        if self.kind == "failed":
            where = f" in step {self.step}" if self.step else ""
            lines.append(f"{self.pipeline} failed{where}: {self.error}")
        for each in self.rejected:
            version = f"version {each.version} of {each.name}"
            said = f"{version} awaits an approval" if each.awaits_approval else f"the gate rejected {version}"
            lines.append(f"{self.pipeline}: {said}")
            lines += [f"- {rule}" for rule in each.rules]
        lines.append(f"Run {self.run}" + (f": {self.run_url}" if self.run_url else ""))
        return "\n".join(lines)
