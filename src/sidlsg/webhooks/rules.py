"""The table that maps registry events to runs, copies and rollouts.

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

from pydantic import Field, model_validator

from sidlsg.kubeflow.toml_forms import Form, read_form
from sidlsg.webhooks.ledger import ALIAS, CREATED, TAG, Cause, Event

_WORD = re.compile(r"\{([^{}]*)\}")


class RunRule(Form):
    """The run that a rule starts."""

    pipeline: str = Field(min_length=1)
    version: str = ""
    """Of the pipeline; empty for the newest."""
    parameters: dict[str, str | bool | int | float] = Field(default={})
    """Texts may hold words in braces."""

    def filled(self, words: Mapping[str, str]) -> dict[str, Any]:
        """The action, with the words replaced."""
        # One pass over each text: the value of a tag is never read as a template.
        parameters = {
            name: _WORD.sub(lambda found: words[found[1]], value) if isinstance(value, str) else value
            for name, value in self.parameters.items()
        }
        return {"run": {"pipeline": self.pipeline, "version": self.version, "parameters": parameters}}

    def require_words(self, *known: str) -> None:
        """Raise a ValueError for a word that is not known."""
        for name, value in self.parameters.items():
            for word in _WORD.findall(value) if isinstance(value, str) else ():
                if word not in known:
                    more = f"; for {{{word}}} put that tag into the rule's 'tags'" if word.startswith("tag.") else ""
                    here = ", ".join(f"{{{each}}}" for each in known)
                    raise ValueError(f"{{{word}}} in {name!r}; here are {here}{more}")


class CopyRule(Form):
    """The copy of a model that a rule makes."""

    to: str = Field(min_length=1)
    """A folder or an `s3://` prefix that serving reads."""

    @model_validator(mode="after")
    def _check(self) -> CopyRule:
        if "://" in self.to and not self.to.startswith("s3://"):
            raise ValueError(f"'to' is {self.to!r}; give a folder or s3://BUCKET/PREFIX")
        return self


class Serve(CopyRule):
    """The copy of a model that a rule makes, and its rollout on an InferenceService."""

    service: str = Field(min_length=1)
    namespace: str = ""
    """Of the InferenceService; empty for the service's own."""
    canary_percent: int = Field(default=10, ge=1, le=99)
    """Traffic of a canary until it is evaluated."""
    ready_minutes: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """Longest time until a canary answers."""

    @model_validator(mode="after")
    def _check_s3(self) -> Serve:
        if not self.to.startswith("s3://"):
            raise ValueError(f"'to' is {self.to!r}, and KServe reads it; give s3://BUCKET/PREFIX")
        return self


class Rule(Form):
    """Events of versions, and the action that they start."""

    name: str = Field(min_length=1)
    event: Literal["model_version.created", "model_version_alias.created", "model_version_tag.set"]
    model: str = "*"
    """A shell pattern of names."""
    alias: str = ""
    tag: str = ""
    """The key of the tag that was set."""
    tags: dict[str, str] = Field(default={})
    """Patterns of values; the version must have all of the tags."""
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
            # A version that the rule matches certainly has these.
            tags = sorted({*self.tags, self.tag} - {""})
            self.run.require_words(
                "model", "version", *(["alias"] if self.alias else []), *(f"tag.{key}" for key in tags)
            )
        return self

    @property
    def action(self) -> str:
        """The action, for people."""
        if self.run:
            return f"runs {self.run.pipeline}"
        if self.serve:
            return f"serves the model on {self.serve.service}, from {self.serve.to}"
        return f"copies the model to {self.copy_.to if self.copy_ else ''}"

    def matches(self, event: Event, tags: Mapping[str, str]) -> bool:
        """Whether an event of a version with these tags starts this rule's action."""
        return (
            (event.kind, event.alias) == (self.event, self.alias)
            and event.tag == self.tag
            and (not self.tag or self.tag in tags)  # it may be deleted since
            and fnmatch.fnmatchcase(event.model, self.model)
            and all(key in tags and fnmatch.fnmatchcase(tags[key], want) for key, want in self.tags.items())
        )

    def cause(self, event: Event, tags: Mapping[str, str], mark: str) -> Cause:
        """The cause of a matching event, named by a digest of the rule's name and the event, never of the delivery.

        `mark` tells the event from others with the same names.
        """
        named = {"model": event.model, "version": event.version, "alias": event.alias}
        if self.run:
            action = self.run.filled(named | {f"tag.{key}": text for key, text in tags.items()})
        else:
            kind, asked = ("serve", self.serve) if self.serve else ("copy", self.copy_)
            action = {kind: named | (asked.model_dump() if asked else {})}
        value = f"{event.tag}={tags.get(event.tag, '')}" if event.tag else event.alias
        words = [event.kind, event.model, event.version, value, mark]
        return _cause(self.name, " ".join(word for word in words if word), action)


class WatchRule(Form):
    """A prompt set whose changes start a run."""

    name: str = Field(min_length=1)
    place: str = Field(min_length=1)
    """The prompt set's URI."""
    run: RunRule

    @model_validator(mode="after")
    def _check(self) -> WatchRule:
        self.run.require_words("place", "digest")
        return self

    def cause(self, digest: str) -> Cause:
        """The cause of a prompt set with that digest."""
        return _cause(self.name, f"prompt set {digest}", self.run.filled({"place": self.place, "digest": digest}))


class Table(Form):
    """The rules of a file, in its order."""

    on: list[Rule] = Field(default=[])
    watch: list[WatchRule] = Field(default=[])

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
        """The names of all rules."""
        return [rule.name for rule in self.on] + [watch.name for watch in self.watch]

    @property
    def kinds(self) -> list[str]:
        """The kinds of events that the rules name."""
        return sorted({rule.event for rule in self.on})

    def causes(self, event: Event, tags: Mapping[str, str], mark: str) -> list[Cause]:
        """The causes of an event, one for each rule that matches."""
        return [rule.cause(event, tags, mark) for rule in self.on if rule.matches(event, tags)]

    def possible(self, model: str, version: str, tags: Mapping[str, str], aliases: list[str]) -> list[Event]:
        """The events that a version may have had, by its present tags and aliases, and that a rule matches."""
        seen = [Event(kind=CREATED, model=model, version=version)]
        seen += [Event(kind=ALIAS, model=model, version=version, alias=alias) for alias in aliases]
        seen += [Event(kind=TAG, model=model, version=version, tag=key) for key in tags]
        return [event for event in seen if any(rule.matches(event, tags) for rule in self.on)]


def read_table(path: Path) -> Table:
    """Read a file of rules.

    Raises:
        InputError: it cannot be read, or has a key or value that is not allowed; all of these are named.
    """
    return read_form(Table, path, "give a file of rules")


def _cause(rule: str, what: str, action: dict[str, Any]) -> Cause:
    digest = hashlib.sha256(json.dumps([rule, what]).encode()).hexdigest()
    return Cause(name=f"trigger-{digest[:32]}", rule=rule, what=what, action=action)
