"""What MLflow's and its connections' errors mean to a user of a stage, and which of them a second try may mend."""

from __future__ import annotations

import functools
import inspect
import json
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from mlflow.exceptions import MlflowException, RestException
from requests import RequestException  # type: ignore[import-untyped]  # MLflow's, and without types
from requests.exceptions import RetryError  # type: ignore[import-untyped]
from urllib3.exceptions import MaxRetryError

from sidlsg.registry.address import shown
from sidlsg.runtime.errors import InputError, SidlsgError, StorageError, first_line

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 4
PAUSE_S = 1.0
"""Before the second try; before each further one twice as long."""
_REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "UNAUTHENTICATED", "BAD_REQUEST"}
_LONGEST = 300
_GOES_ON = "nothing is half done that others see: look at the server, and run the same command again"
_MAYBE_DONE = "it may have been done all the same: look at the model's aliases before you run it again"


def explained(stage: Callable[P, T]) -> Callable[P, T]:
    """Let a stage with a parameter `tracking_uri` that can be repeated raise the project's errors alone.

    Of a broken connection it is told after some tries; MLflow's client by itself repeats a request that got no answer,
    and not one whose answer broke off. A stage that ends so has left nothing half done that others see: a version
    appears when it is complete, and an alias moves last.

    Raises:
        InputError: MLflow refuses what it was asked.
        StorageError: MLflow or its artifact store is away, busy or broken; the same call again goes on.
    """
    return _told(stage, TRIES, _GOES_ON)


def explained_once(stage: Callable[P, T]) -> Callable[P, T]:
    """The same for a stage that does something else when it is called again."""
    return _told(stage, 1, _MAYBE_DONE)


def meaning(error: Exception, place: str, advice: str) -> SidlsgError:
    """The project's error for one of MLflow's."""
    reason = first_line(error)
    reason = reason if len(reason) <= _LONGEST else reason[:_LONGEST] + "…"
    if isinstance(error, RestException) and error.error_code in _REFUSED:
        return InputError(f"MLflow at {place} refuses it: {reason}")
    return StorageError(f"MLflow at {place} did not do what it was asked ({reason}); {advice}")


def _told(stage: Callable[P, T], tries: int, advice: str) -> Callable[P, T]:
    signature = inspect.signature(stage)

    @functools.wraps(stage)
    def called(*given: P.args, **named: P.kwargs) -> T:
        for number in range(1, tries + 1):
            try:
                return stage(*given, **named)
            except (MlflowException, RequestException, json.JSONDecodeError) as error:
                place = shown(str(signature.bind(*given, **named).arguments["tracking_uri"]))
                told = meaning(error, place, advice)
                # What MLflow's client has tried for minutes is not worth another few.
                if number == tries or isinstance(told, InputError) or _was_repeated(error):
                    raise told from error
                time.sleep(PAUSE_S * 2 ** (number - 1))
        raise AssertionError("the last try returns or raises")

    return called


def _was_repeated(error: BaseException) -> bool:
    return any(
        isinstance(found, MaxRetryError | RetryError) or any(isinstance(part, MaxRetryError) for part in found.args)
        for found in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
