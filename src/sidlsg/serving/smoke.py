"""The smoke evaluation of a canary: is it this copy, and does it answer with the images of `sidlsg generate`?"""

from __future__ import annotations

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from sidlsg.runtime.errors import StorageError
from sidlsg.runtime.parsing import parse_json
from sidlsg.serving.reference import COUNT, PROMPTS, SEED

MEAN_TOLERANCE = 2.0
"""Most that an image may differ from `sidlsg generate`'s, as the mean over its values of 0 to 255. Zero on a CPU; on a
GPU the served code allows TF32 in convolutions, and `sidlsg generate` does not."""
_AGAIN = (408, 425, 429, 502, 503, 504)
"""Statuses of gateways and queues, after which the same request may succeed."""


def smoke(url: str, name: str, sha256: str, timeout_s: float = 600.0) -> str:
    """Evaluate a server of a copied model.

    Args:
        url: of the canary alone.
        name: of the model in the protocols' addresses.
        sha256: of the copy's `SHA256SUMS`.
        timeout_s: seconds that each request may take.

    Returns:
        Why the server must not serve; empty where it may.

    Raises:
        StorageError: the server does not answer yet.
    """
    parameters = {"seed": SEED, "count": COUNT}
    tensor = {"name": "prompt", "shape": [len(PROMPTS)], "datatype": "BYTES", "data": list(PROMPTS)}
    try:
        versions = _ask(f"{url}/v2/models/{name}", timeout_s).get("versions")
        if versions != [sha256]:
            return f"it serves {versions}, not the copy with digest {sha256}"
        v1 = _ask(f"{url}/v1/models/{name}:predict", timeout_s, instances=list(PROMPTS), parameters=parameters)
        v2 = _ask(f"{url}/v2/models/{name}/infer", timeout_s, inputs=[tensor], parameters=parameters)
        expected = _ask(f"{url}/smoke/{name}", timeout_s)["predictions"]
        images, flat = v1["predictions"], v2["outputs"][0]["data"]
    except _RefusedError as error:
        return str(error)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        return f"an answer is not of KServe's protocols ({type(error).__name__}: {error})"
    if [image or "" for each in images for image in each] != flat:
        return "its answers by protocols v1 and v2 differ"
    return _difference(images, expected)


def _difference(images: Sequence[Sequence[str | None]], expected: Sequence[Sequence[str]]) -> str:
    """Why images are not the expected ones; empty where they are."""
    if [len(each) for each in images] != [len(each) for each in expected]:
        return f"it answers {[len(each) for each in images]} images, not {[len(each) for each in expected]}"
    for prompt, got, wanted in zip(PROMPTS, images, expected, strict=True):
        for number, (one, other) in enumerate(zip(got, wanted, strict=True)):
            where = f"the image of {prompt!r}, seed {SEED + number},"
            if one is None:
                return f"{where} is flagged by the safety checker"
            if one == other:
                continue
            a, b = _pixels(one), _pixels(other)
            if a.shape != b.shape:
                return f"{where} has shape {a.shape}, not {b.shape}"
            if (mean := float(np.abs(a - b).mean())) > MEAN_TOLERANCE:
                return f"{where} differs from `sidlsg generate` by {mean:.1f} of 255; allowed: {MEAN_TOLERANCE:g}"
    return ""


def _pixels(text: str) -> Any:
    """[H, W, 3] float64, 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text)), formats=("PNG",)).convert("RGB"), dtype=np.float64)


class _RefusedError(Exception):
    """The server answered, and another attempt would get the same answer."""


def _ask(url: str, timeout_s: float, **content: Any) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(content).encode() if content else None)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            found = parse_json(answer.read())
    except urllib.error.HTTPError as error:
        reason = f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}"
        raise (StorageError if error.code in _AGAIN else _RefusedError)(reason) from error
    except (OSError, ValueError) as error:
        raise StorageError(f"{url} does not answer ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict):
        raise _RefusedError(f"{url} answers no JSON object")
    return found
