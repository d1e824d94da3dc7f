"""A page from a template of this package: whatever a record holds is text on it."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sidlsg.runtime import formatting as text


def render(template: str, **values: Any) -> str:
    """The page's HTML."""
    # Every value is escaped, and a name that the template misspells is an error.
    environment = Environment(
        loader=PackageLoader("sidlsg.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = text.duration
    environment.filters["short"] = lambda digest: digest[: text.DIGEST_SHOWN]
    return environment.get_template(template).render(**values)
