"""The steps of curation: each takes a prompt and gives it back, changed or not, or drops it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sidlsg.prompts.clean import clean, same_text_key, same_words_key
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.source import Prompt
from sidlsg.records import FunnelStep


@dataclass(frozen=True, kw_only=True)
class Step:
    """One named step."""

    name: str
    demand: str
    """What the step asks of a prompt, in words."""
    apply: Callable[[Prompt], Prompt | None]
    """Gives the prompt on, or None to drop it."""


def identity(text: str) -> bytes:
    """SHA-256 of the case-folded text: what makes a prompt the same prompt, and its place in the order."""
    return hashlib.sha256(same_text_key(text).encode()).digest()


def score_step(rules: CurationRules) -> Step:
    """Keep scores of at least the minimum; NaN is none."""
    demand = f"{rules.score_column} of at least {rules.minimum_score}"
    return Step(name="score", demand=demand, apply=lambda p: p if p.score >= rules.minimum_score else None)


def clean_step() -> Step:
    """Clean the text; drop what is empty then."""

    def apply(prompt: Prompt) -> Prompt | None:
        text = clean(prompt.text)
        return replace(prompt, text=text) if text else None

    return Step(name="clean", demand="a text that is not empty after cleaning", apply=apply)


def length_step(rules: CurationRules) -> Step:
    """Keep texts of an allowed number of words."""

    def apply(prompt: Prompt) -> Prompt | None:
        return prompt if rules.minimum_words <= len(prompt.text.split()) <= rules.maximum_words else None

    return Step(name="length", demand=f"{rules.minimum_words} to {rules.maximum_words} words", apply=apply)


def duplicates_step() -> Step:
    """Keep the first of equal texts: in the source's order, that is the lowest row. A step serves one pass only."""
    seen: set[bytes] = set()

    def apply(prompt: Prompt) -> Prompt | None:
        key = identity(prompt.text)
        if key in seen:
            return None
        seen.add(key)
        return prompt

    return Step(name="duplicates", demand="a text that no earlier row has", apply=apply)


def held_out_step(held_out: Sequence[str]) -> Step:
    """Drop the texts that have the words of a held-out caption."""
    keys = {same_words_key(caption) for caption in held_out}
    return Step(
        name="held_out",
        demand="a text that is not on the held-out list",
        apply=lambda p: None if same_words_key(p.text) in keys else p,
    )


def curation_steps(rules: CurationRules, held_out: Sequence[str]) -> tuple[Step, ...]:
    """The steps in the order in which they are applied."""
    return score_step(rules), clean_step(), length_step(rules), duplicates_step(), held_out_step(held_out)


def select(prompts: Iterable[Prompt], steps: Sequence[Step]) -> tuple[list[Prompt], tuple[FunnelStep, ...]]:
    """Send prompts through the steps, one at a time.

    Returns:
        The prompts that pass, sorted by identity (so input order, file splits and machines do not matter), and the
        funnel: a step `read` that lets all rows through, then one a step.
    """
    kept = []
    passed = [0] * (len(steps) + 1)
    for prompt in prompts:
        last, count = _through(prompt, steps)
        for index in range(count + 1):
            passed[index] += 1
        if count == len(steps):
            kept.append(last)
    kept.sort(key=lambda p: identity(p.text))
    names = ["read", *(step.name for step in steps)]
    counts = zip(names, [passed[0], *passed], passed, strict=False)
    return kept, tuple(FunnelStep(name=name, rows_in=rows_in, rows_out=rows_out) for name, rows_in, rows_out in counts)


def _through(prompt: Prompt, steps: Sequence[Step]) -> tuple[Prompt, int]:
    """The prompt as the last step that let it through gave it on, and how many steps did."""
    for count, step in enumerate(steps):
        after = step.apply(prompt)
        if after is None:
            return prompt, count
        prompt = after
    return prompt, len(steps)
