"""The table that maps events to runs.

```toml
[[on]]
name = "distil a new teacher"
event = "model_version.created"
model = "teacher-*"
tags = { teacher_sha256 = "*" }

[on.run]
pipeline = "distil-and-evaluate"
parameters = { teacher = "{tag.place}@sha256:{tag.teacher_sha256}", seed = 0 }
```
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sidlsg.errors import InputError
from sidlsg.trigger.service.event import Event
from sidlsg.trigger.service.ledger import Intent

WORD = re.compile(r"\{([^{}]*)\}")
KNOWN = re.compile(r"model|version|alias|tag\..+")


class Strict(BaseModel):
    """A table of the file: no key beside those that are read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Run(Strict):
    """The run that a rule asks for."""

    pipeline: str = Field(min_length=1)
    version: str = ""
    """Of the pipeline; "" for the newest."""
    parameters: dict[str, str | bool | int | float] = {}
    """Texts may hold `{model}`, `{version}`, `{alias}` and `{tag.KEY}`."""

    @model_validator(mode="after")
    def _check(self) -> Run:
        for name, value in self.parameters.items():
            for word in WORD.findall(value) if isinstance(value, str) else ():
                if not KNOWN.fullmatch(word):
                    raise ValueError(
                        f"{{{word}}} in {name!r}; allowed are {{model}}, {{version}}, {{alias}}, {{tag.KEY}}"
                    )
        return self


class Rule(Strict):
    """Which events ask for which run."""

    name: str = Field(min_length=1)
    event: Literal["model_version.created", "model_version_alias.created", "model_version_tag.set"]
    model: str = "*"
    """A pattern of names, as a shell has it."""
    alias: str = ""
    tags: dict[str, str] = {}
    """Patterns of values; the event must have every one of the tags."""
    run: Run

    @model_validator(mode="after")
    def _check(self) -> Rule:
        if (self.event == "model_version_alias.created") != bool(self.alias):
            raise ValueError("'alias' belongs to the event model_version_alias.created, which needs it")
        if self.alias and self.tags:
            raise ValueError("'tags' cannot be asked of model_version_alias.created: MLflow does not tell them")
        return self

    def matches(self, event: Event) -> bool:
        """Tell whether an event asks for this rule's run."""
        return (
            event.kind == self.event
            and event.alias == self.alias
            and fnmatch.fnmatchcase(event.model, self.model)
            and all(key in event.tags and fnmatch.fnmatchcase(event.tags[key], want) for key, want in self.tags.items())
        )

    def intent(self, event: Event) -> Intent:
        """Make the run that an event asks for.

        Its name is a digest of the rule's name, the event and the parameters, and never of the delivery: an alias
        that comes back to a version that had it before is the same cause.

        Raises:
            InputError: a parameter names a tag that the event does not tell.
        """
        parameters = {key: self._fill(value, event) for key, value in self.run.parameters.items()}
        cause = [self.name, event.kind, event.model, event.version, event.alias, parameters]
        digest = hashlib.sha256(json.dumps(cause, sort_keys=True).encode()).hexdigest()[:32]
        return Intent(
            name=f"trigger-{digest}", pipeline=self.run.pipeline, version=self.run.version, parameters=parameters
        )

    def _fill(self, value: Any, event: Event) -> Any:
        if not isinstance(value, str):
            return value
        words = {"model": event.model, "version": event.version, "alias": event.alias}
        words |= {f"tag.{key}": text for key, text in event.tags.items()}
        try:
            # Once over the text: what a tag holds is never read as a template.
            return WORD.sub(lambda found: words[found[1]], value)
        except KeyError as error:
            raise InputError(
                f"rule {self.name!r} needs {{{error.args[0]}}}, which {event.model} version {event.version} does not "
                "have; ask for the tag in the rule's 'tags'"
            ) from error


class Table(Strict):
    """The rules of a file, in its order."""

    on: list[Rule] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Table:
        names = [rule.name for rule in self.on]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules are named {twice[0]!r}; runs are named after rules")
        return self

    def intents(self, event: Event) -> list[Intent]:
        """Make the runs that an event asks for, of every rule that it matches."""
        return [rule.intent(event) for rule in self.on if rule.matches(event)]


def read_table(path: Path) -> Table:
    """Read a file of rules.

    Raises:
        InputError: it cannot be read, is not TOML, or has a key or value that is not allowed; all are named.
    """
    try:
        return Table.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give a file of rules") from error
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors())
        raise InputError(f"{path} is not a table of triggers: {told}") from error
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {error}") from error
