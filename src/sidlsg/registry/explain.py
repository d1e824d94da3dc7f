"""What MLflow's and its connections' errors mean to a user of a stage."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from requests import RequestException  # type: ignore[import-untyped]  # MLflow's, and without types

from sidlsg.errors import InputError, SidlsgError, StorageError
from sidlsg.registry.connect import shown

P = ParamSpec("P")
T = TypeVar("T")

_REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "UNAUTHENTICATED", "BAD_REQUEST"}
_LONGEST = 300


def explained(stage: Callable[P, T]) -> Callable[P, T]:
    """Let a stage with a parameter `tracking_uri` raise the project's errors alone.

    A stage that ends so has left nothing half done that others see: a version appears when it is complete, and an
    alias moves last.

    Raises:
        InputError: MLflow refuses what it was asked.
        StorageError: MLflow or its artifact store is away, busy or broken; the same call again goes on.
    """
    signature = inspect.signature(stage)

    @functools.wraps(stage)
    def called(*given: P.args, **named: P.kwargs) -> T:
        try:
            return stage(*given, **named)
        except (MlflowException, RequestException, json.JSONDecodeError) as error:
            place = shown(str(signature.bind(*given, **named).arguments["tracking_uri"]))
            raise meaning(error, place) from error

    return called


def meaning(error: Exception, place: str) -> SidlsgError:
    """The project's error for one of MLflow's."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    reason = reason if len(reason) <= _LONGEST else reason[:_LONGEST] + "…"
    if isinstance(error, MlflowException) and error.error_code in _REFUSED:
        return InputError(f"MLflow at {place} refuses it: {reason}")
    return StorageError(
        f"MLflow at {place} did not do what it was asked ({reason}); nothing is half done that others see: look at the "
        "server, and run the same command again"
    )
