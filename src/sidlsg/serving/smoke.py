"""The smoke evaluation of a canary: does it serve this copy, and answer with the images of `sidlsg generate`?"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sidlsg.runtime.errors import SidlsgError, StorageError
from sidlsg.runtime.parsing import parse_json

PROMPTS = ("a small red circle on a blue background", "a photograph of an old lighthouse by the sea")
SEED, COUNT = 20, 2
"""Each prompt's images have the seeds SEED to SEED + COUNT - 1."""
MEAN_TOLERANCE = 2.0
"""Maximum mean difference between an image and `sidlsg generate`'s, of values 0 to 255. It is zero on a CPU; on a GPU
the served code allows TF32 in convolutions, and `sidlsg generate` does not."""
_RETRY = (408, 425, 429, 502, 503, 504)
"""Statuses of gateways and queues, after which the same request may succeed."""


def reference(student: Path, timeout_s: float = 600.0) -> list[list[str]]:
    """Generate the smoke evaluation's images by processes of `sidlsg generate`, each with this timeout.

    Returns:
        For each of `PROMPTS`, `COUNT` base64 strings of PNG files.

    Raises:
        SidlsgError: `sidlsg generate` failed, or took too long.
    """
    images = []
    for prompt in PROMPTS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "sidlsg", "generate", str(student), prompt, "--output", folder]
            command += ["--seed", str(SEED), "--count", str(COUNT)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
            except subprocess.TimeoutExpired as error:
                raise StorageError(f"`sidlsg generate` took more than {timeout_s:g} s; give it more CPUs") from error
            if done.returncode:
                raise SidlsgError(f"`sidlsg generate` ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
            files = sorted(Path(folder).glob("*.png"))
            images.append([base64.b64encode(file.read_bytes()).decode() for file in files])
    return images


def smoke(url: str, name: str, sha256: str, timeout_s: float = 600.0) -> str:
    """Evaluate a server of a copied model.

    Args:
        url: of the canary alone.
        name: of the model in the protocols' paths.
        sha256: of the copy's `SHA256SUMS`.
        timeout_s: seconds for each request.

    Returns:
        Why the server must not serve; empty where it may.

    Raises:
        StorageError: the server does not answer yet.
    """
    parameters = {"seed": SEED, "count": COUNT}
    tensor = {"name": "prompt", "shape": [len(PROMPTS)], "datatype": "BYTES", "data": list(PROMPTS)}
    try:
        versions = _request(f"{url}/v2/models/{name}", timeout_s).get("versions")
        if versions != [sha256]:
            return f"it serves {versions}, not the copy with digest {sha256}"
        v1 = _request(f"{url}/v1/models/{name}:predict", timeout_s, instances=list(PROMPTS), parameters=parameters)
        v2 = _request(f"{url}/v2/models/{name}/infer", timeout_s, inputs=[tensor], parameters=parameters)
        expected = _request(f"{url}/smoke/{name}", timeout_s)["predictions"]
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
    """The server answered, and a retry would get the same answer."""


def _request(url: str, timeout_s: float, **content: Any) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(content).encode() if content else None)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            found = parse_json(answer.read())
    except urllib.error.HTTPError as error:
        reason = f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}"
        raise (StorageError if error.code in _RETRY else _RefusedError)(reason) from error
    except (OSError, ValueError) as error:
        raise StorageError(f"{url} does not answer ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict):
        raise _RefusedError(f"{url} answers no JSON object")
    return found
