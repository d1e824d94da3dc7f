"""What the parser refuses, in one line: what was given, what is allowed and what to do."""

from __future__ import annotations

from typing import Any

from sidlsg.runtime.validation import wanted


def refusal(error: Any) -> str:
    """The line for an error of the parser, whose types have no stable import path."""
    parameter = getattr(error, "param", None)
    if parameter is None:
        return _usage(error)
    option = parameter.opts[-1] if parameter.param_type_name == "option" else ""
    name = option or parameter.metavar or parameter.name
    if hasattr(error.__cause__, "errors"):  # pydantic's
        found = error.__cause__.errors()[0]
        return f"{name} is {found['input']!r}; give {_allowed(parameter, found)}"
    if error.message:
        return f"{name}: {error.message}"
    value = f"{option} {parameter.metavar}" if option else "it"
    variable = f", or set {parameter.envvar}" if parameter.envvar else ""
    return f"{name} is missing; give {value} ({parameter.help.rstrip('.')}){variable}"


def _usage(error: Any) -> str:
    """The line for words that the command does not know, or an option with a value too many or too few."""
    text, option = error.format_message().rstrip("."), getattr(error, "option_name", "")
    if error.ctx is None:
        return f"{text}; give {option} {'alone' if 'not take' in text else 'VALUE'}"
    return f"{text}{'' if text.endswith('?') else ';'} `{_words(error.ctx)} --help` lists what is allowed"


def _allowed(parameter: Any, found: dict[str, Any]) -> str:
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if low is None and high is None:
        return wanted(found)
    words = wanted(found) if found["type"].startswith(("int", "float")) else "a number"
    if low is not None and high is not None:
        return f"{words} from {low} to {high}"
    return f"{words}, {low} or more" if high is None else f"{words}, {high} or less"


def _words(context: Any) -> str:
    """The words of a command, whatever the program's own name."""
    above = context.parent
    return "sidlsg" if above is None else f"{_words(above)} {context.info_name}"
