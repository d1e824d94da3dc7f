"""Amounts as profiles write them: Kubernetes' quantities, and times such as 90s, 30m, 12h or 7d."""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

_CPU = re.compile(r"[1-9][0-9]*m|[0-9]+(\.[0-9]+)?")
_SIZE = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti|M|G|T)")
_TIME = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "M": 10**6, "G": 10**9, "T": 10**12}
_LARGEST = 2**31 - 1


def _cpu(text: str) -> str:
    if not _CPU.fullmatch(text) or not processors(text):
        raise ValueError('give a number of processors, such as "4" or "500m"')
    return text


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise ValueError('give a size, such as "512Mi" or "64Gi"')
    return text


def _time(text: str) -> str:
    seconds(text)
    return text


def _or_none(check: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: check(text) if text else text


def processors(text: str) -> float:
    """A number of processors, such as 4 or 500m."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def size(text: str) -> float:
    """A size in bytes."""
    return float(text.rstrip("KMGTi")) * _UNITS[text.lstrip("0123456789")]


def seconds(text: str) -> int:
    """A time in whole seconds.

    Raises:
        ValueError: it is not a number with s, m, h or d, is 0, or is longer than Kubernetes can count.
    """
    found = _TIME.fullmatch(text)
    value = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < value <= _LARGEST:
        raise ValueError('give a time above 0 with its unit, such as "90s", "30m", "12h" or "7d"')
    return value


Cpu = Annotated[str, AfterValidator(_cpu)]
Size = Annotated[str, AfterValidator(_size)]
Time = Annotated[str, AfterValidator(_time)]
CpuOrNone = Annotated[str, AfterValidator(_or_none(_cpu))]
SizeOrNone = Annotated[str, AfterValidator(_or_none(_size))]
