"""TOML files as pydantic models: no unknown key is ignored, and every mistake is reported with its key in the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import read_toml
from sidlsg.runtime.validation import mistake


class Form(BaseModel):
    """A table of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


F = TypeVar("F", bound=Form)


def read_form(form: type[F], path: Path, advice: str) -> F:
    """Read a TOML file.

    Args:
        form: of the whole file.
        path: the file.
        advice: what to do where it cannot be read.

    Raises:
        InputError: it cannot be read, or has a key or value that is not allowed; all of these are named.
    """
    tables = read_toml(path, advice)
    if found := mistakes(form, tables):
        raise InputError(f"{path}: {'; '.join(found)}")
    return form.model_validate(tables)


def mistakes(form: type[Form], table: Mapping[str, Any], place: str = "") -> list[str]:
    """All mistakes in a table, each with its key below `place`. An entry of a list is identified by its `name`."""
    try:
        form.model_validate(table)
    except ValidationError as error:
        return [_mistake(form, table, dict(each), place) for each in error.errors()]
    return []


def _mistake(form: type[Form], table: Mapping[str, Any], found: dict[str, Any], place: str) -> str:
    words: list[Any] = [word for word in found["loc"] if word != "[key]"]
    allowed = _keys(form, words[:-1])
    where = ""
    if not place and len(words) > 1 and isinstance(words[1], int):
        name, number, *words = words
        entry = table[name][number]
        title = entry.get("name") if isinstance(entry, dict) else None
        where = f"[[{name}]] {title!r}: " if title else f"[[{name}]] number {number + 1}: "
    key = ".".join(map(str, [place, *words] if place else words))
    if found["type"] == "extra_forbidden":
        return f"{where}{key} is unknown{nearest(str(words[-1]), allowed)}; allowed: {', '.join(allowed)}"
    return f"{where}{mistake(found, key)}"


def _keys(form: type[BaseModel], words: Sequence[Any]) -> tuple[str, ...]:
    """The keys of the table at a path of keys; indices of entries and keys of mappings are not fields."""
    for word in words:
        fields = {field.alias or name: field for name, field in form.model_fields.items()}
        if word in fields:
            form = _form_in(fields[word].annotation) or form
    return tuple(field.alias or name for name, field in form.model_fields.items())


def _form_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _form_in(part))), None)
