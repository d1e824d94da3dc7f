"""Fixed prompts and seeds of the smoke evaluation, and the images that `sidlsg generate` writes for them."""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from pathlib import Path

from sidlsg.runtime.errors import SidlsgError, StorageError

PROMPTS = ("a small red circle on a blue background", "a photograph of an old lighthouse by the sea")
SEED, COUNT = 20, 2
"""Each prompt's images have the seeds SEED to SEED + COUNT - 1."""


def reference(student: Path, timeout_s: float = 600.0) -> list[list[str]]:
    """The smoke evaluation's images, by `sidlsg generate` in processes of its own.

    Args:
        student: a student's diffusers folder.
        timeout_s: seconds that each process may take.

    Returns:
        One list for each of `PROMPTS`, of `COUNT` base64 strings of PNG files.

    Raises:
        SidlsgError: `sidlsg generate` failed, or took too long.
    """
    images = []
    for prompt in PROMPTS:
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "-m", "sidlsg", "generate", str(student), prompt, "--output", folder]
            words += ["--seed", str(SEED), "--count", str(COUNT)]
            try:
                done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
            except subprocess.TimeoutExpired as error:
                raise StorageError(f"`sidlsg generate` took more than {timeout_s:g} s; give it more CPUs") from error
            if done.returncode:
                raise SidlsgError(f"`sidlsg generate` ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
            files = sorted(Path(folder).glob("*.png"))
            images.append([base64.b64encode(file.read_bytes()).decode() for file in files])
    return images
