"""Amounts as profiles write them: Kubernetes' quantities, and times such as 90s, 30m, 12h or 7d."""

import re
from typing import Annotated

from pydantic import AfterValidator

_CPU = re.compile(r"\d+m|\d+(\.\d+)?")
_SIZE = re.compile(r"\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?")
_TIME = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LARGEST = 2**31 - 1


def _cpu(text: str) -> str:
    if text and not _CPU.fullmatch(text):
        raise ValueError('give a number of processors, such as "4" or "500m"')
    return text


def _size(text: str) -> str:
    if text and not _SIZE.fullmatch(text):
        raise ValueError('give a size, such as "512Mi" or "64Gi"')
    return text


def _time(text: str) -> str:
    if text:
        seconds(text)
    return text


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
