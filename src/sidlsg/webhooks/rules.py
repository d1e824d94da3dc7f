"""The table that maps events to runs, copies and rollouts.

```toml
[[on]]
name = "distil a new teacher"
event = "model_version.created"
model = "*-teacher"
tags = { place = "*" }

[on.run]
pipeline = "distil-and-evaluate"
parameters = { teacher = "{tag.place}", seed = 0 }
```
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import read_toml
from sidlsg.webhooks.ledger import ALIAS, CREATED, TAG, Cause, Event

_WORD = re.compile(r"\{([^{}]*)\}")


class RuleTable(BaseModel):
    """A table of the file: no key beside those that are read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RunRule(RuleTable):
    """The run that a rule asks for."""

    pipeline: str = Field(min_length=1)
    version: str = ""
    """Of the pipeline; empty for the newest."""
    parameters: dict[str, str | bool | int | float] = {}
    """Texts may hold words in braces."""

    def filled(self, words: Mapping[str, str]) -> dict[str, Any]:
        """The action, with the words in their places."""
        # Once over each text: what a tag holds is never read as a template.
        parameters = {
            name: _WORD.sub(lambda found: words[found[1]], value) if isinstance(value, str) else value
            for name, value in self.parameters.items()
        }
        return {"run": {"pipeline": self.pipeline, "version": self.version, "parameters": parameters}}

    def require_words(self, *known: str) -> None:
        """Check the words.

        Raises:
            ValueError: one is not among those that there are.
        """
        for name, value in self.parameters.items():
            for word in _WORD.findall(value) if isinstance(value, str) else ():
                if word not in known:
                    more = f"; for {{{word}}} put that tag into the rule's 'tags'" if word.startswith("tag.") else ""
                    here = ", ".join(f"{{{each}}}" for each in known)
                    raise ValueError(f"{{{word}}} in {name!r}; here are {here}{more}")


class CopyRule(RuleTable):
    """The copy of a model that a rule asks for."""

    to: str = Field(min_length=1)
    """A folder or an `s3://` prefix that serving reads."""

    @model_validator(mode="after")
    def _check(self) -> CopyRule:
        if "://" in self.to and not self.to.startswith("s3://"):
            raise ValueError(f"'to' is {self.to!r}; give a folder or s3://BUCKET/PREFIX")
        return self


class Serve(CopyRule):
    """The copy of a model that a rule asks for, and its rollout on an InferenceService."""

    service: str = Field(min_length=1)
    """The InferenceService's name."""
    namespace: str = ""
    """Of the InferenceService; empty for the service's own."""
    canary_percent: int = Field(default=10, ge=1, le=99)
    """Share of the traffic that a canary has until it is evaluated."""
    ready_minutes: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """Longest that a canary may take until it answers."""

    @model_validator(mode="after")
    def _check_s3(self) -> Serve:
        if not self.to.startswith("s3://"):
            raise ValueError(f"'to' is {self.to!r}, and KServe reads it; give s3://BUCKET/PREFIX")
        return self


class Rule(RuleTable):
    """Which events of versions ask for what."""

    name: str = Field(min_length=1)
    event: Literal["model_version.created", "model_version_alias.created", "model_version_tag.set"]
    model: str = "*"
    """A pattern of names, as a shell has it."""
    alias: str = ""
    tag: str = ""
    """The key of the tag that was set."""
    tags: dict[str, str] = {}
    """Patterns of values; the version must have every one of the tags."""
    run: RunRule | None = None
    copy_: CopyRule | None = Field(default=None, alias="copy")
    serve: Serve | None = None

    @model_validator(mode="after")
    def _check(self) -> Rule:
        if (self.event == ALIAS) != bool(self.alias):
            raise ValueError(f"'alias' belongs to the event {ALIAS}, which needs it")
        if (self.event == TAG) != bool(self.tag):
            raise ValueError(f"'tag' belongs to the event {TAG}, which needs it")
        if sum(action is not None for action in (self.run, self.copy_, self.serve)) != 1:
            raise ValueError("a rule needs one of 'run', 'copy' and 'serve'")
        if self.serve is not None and (self.event != ALIAS or set(self.model) & set("*?[")):
            raise ValueError(f"'serve' belongs to the event {ALIAS} of one model; give its name as 'model'")
        if self.run is not None:
            # A version that the rule matches has these for certain.
            alias = ["alias"] if self.alias else []
            tags = sorted({*self.tags, self.tag} - {""})
            self.run.require_words("model", "version", *alias, *(f"tag.{key}" for key in tags))
        return self

    @property
    def action(self) -> str:
        """What it does, in words."""
        if self.run:
            return f"runs {self.run.pipeline}"
        if self.serve:
            return f"serves the model on {self.serve.service}, from {self.serve.to}"
        return f"copies the model to {self.copy_.to if self.copy_ else ''}"

    def matches(self, event: Event, tags: Mapping[str, str]) -> bool:
        """Whether an event of a version with these tags asks for this rule's action."""
        return (
            (event.kind, event.alias) == (self.event, self.alias)
            and event.tag == self.tag
            and (not self.tag or self.tag in tags)  # it may be gone since
            and fnmatch.fnmatchcase(event.model, self.model)
            and all(key in tags and fnmatch.fnmatchcase(tags[key], want) for key, want in self.tags.items())
        )

    def cause(self, event: Event, tags: Mapping[str, str], mark: str) -> Cause:
        """What an event asks for, named by a digest of the rule's name and of what happened, never of the delivery.

        Args:
            event: that this rule matches.
            tags: of the version.
            mark: tells this happening from others with the same names.
        """
        words = {"model": event.model, "version": event.version, "alias": event.alias}
        words |= {f"tag.{key}": text for key, text in tags.items()}
        action: dict[str, Any] = self.run.filled(words) if self.run else {}
        named = {"model": event.model, "version": event.version, "alias": event.alias}
        if self.copy_:
            action = {"copy": {**named, "to": self.copy_.to}}
        if self.serve:
            action = {"serve": {**named, **self.serve.model_dump()}}
        value = f"{event.tag}={tags.get(event.tag, '')}" if event.tag else event.alias
        told = [event.kind, event.model, event.version, value, mark]
        return _cause(self.name, " ".join(word for word in told if word), action)


class WatchRule(RuleTable):
    """A prompt set whose changes ask for a run."""

    name: str = Field(min_length=1)
    place: str = Field(min_length=1)
    """A prompt set's folder, or its `s3://` prefix."""
    run: RunRule

    @model_validator(mode="after")
    def _check(self) -> WatchRule:
        self.run.require_words("place", "digest")
        return self

    def cause(self, digest: str) -> Cause:
        """What a prompt set of that digest asks for."""
        action = self.run.filled({"place": self.place, "digest": digest})
        return _cause(self.name, f"prompt set {digest}", action)


class Table(RuleTable):
    """The rules of a file, in its order."""

    on: list[Rule] = []
    watch: list[WatchRule] = []

    @model_validator(mode="after")
    def _check(self) -> Table:
        names = self.names
        if not names:
            raise ValueError("there is no rule; give [[on]] or [[watch]]")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules are named {twice[0]!r}; runs are named after rules")
        return self

    @property
    def names(self) -> list[str]:
        """Of all rules."""
        return [rule.name for rule in self.on] + [watch.name for watch in self.watch]

    @property
    def kinds(self) -> list[str]:
        """The kinds of events that it needs."""
        return sorted({rule.event for rule in self.on})

    def causes(self, event: Event, tags: Mapping[str, str], mark: str) -> list[Cause]:
        """What an event asks for, of every rule that it matches."""
        return [rule.cause(event, tags, mark) for rule in self.on if rule.matches(event, tags)]

    def possible(self, model: str, version: str, tags: Mapping[str, str], aliases: list[str]) -> list[Event]:
        """The events that a version as it is now may have had, and that a rule names."""
        seen = [Event(kind=CREATED, model=model, version=version)]
        seen += [Event(kind=ALIAS, model=model, version=version, alias=alias) for alias in aliases]
        seen += [Event(kind=TAG, model=model, version=version, tag=key) for key in tags]
        return [event for event in seen if any(rule.matches(event, tags) for rule in self.on)]


_KEYS = {
    "": tuple(Table.model_fields),
    "on": tuple(field.alias or name for name, field in Rule.model_fields.items()),
    "watch": tuple(WatchRule.model_fields),
    "run": tuple(RunRule.model_fields),
    "copy": tuple(CopyRule.model_fields),
    "serve": tuple(Serve.model_fields),
}
"""The keys that a table may have."""


def read_table(path: Path) -> Table:
    """Read a file of rules.

    Raises:
        InputError: it cannot be read, is not TOML, or has a key or value that is not allowed; all are named.
    """
    tables = read_toml(path, "give a file of rules")
    try:
        return Table.model_validate(tables)
    except ValidationError as error:
        told = "; ".join(_told(dict(one), tables) for one in error.errors())
        raise InputError(f"{path} is not a table of triggers: {told}") from error


def _told(mistake: dict[str, Any], tables: Mapping[str, Any]) -> str:
    """A mistake with the name of its rule, or the rule's place in the file."""
    where, words = "", list(mistake["loc"])
    allowed = _KEYS[next((str(word) for word in reversed(words[:-1]) if word in _KEYS), "")]
    if len(words) > 1 and isinstance(words[1], int):
        kind, number, *words = words
        rule = tables[kind][number]
        name = rule.get("name") if isinstance(rule, dict) else None
        where = f"rule {name!r}: " if name else f"[[{kind}]] number {number + 1}: "
    place = ".".join(map(str, words))
    if mistake["type"] == "extra_forbidden":
        return f"{where}{place} is unknown{nearest(str(words[-1]), allowed)}; allowed: {', '.join(allowed)}"
    if mistake["type"] == "missing":
        return f"{where}{place} is missing; give it"
    reason = str(mistake["msg"]).removeprefix("Value error, ")
    return f"{where}{place}: {reason}" if place else f"{where}{reason}"


def _cause(rule: str, what: str, action: dict[str, Any]) -> Cause:
    digest = hashlib.sha256(json.dumps([rule, what]).encode()).hexdigest()
    return Cause(name=f"trigger-{digest[:32]}", rule=rule, what=what, action=action)
