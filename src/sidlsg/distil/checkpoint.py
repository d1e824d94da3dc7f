"""Checkpoints of a training state: written whole, verified on load, the newest good one wins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sidlsg.distil.state import TrainingState
from sidlsg.errors import InputError
from sidlsg.storage import atomic_write, sha256_file
from sidlsg.tensors import load_tensors, save_tensors

KEEP = 2
"""How many checkpoints stay: the newest, and one to fall back on."""


class Checkpoints:
    """The checkpoints of one run in a folder.

    Each is a safetensors file and a JSON file with its digest; the JSON is written last, so that a checkpoint
    without one was cut off and does not count.
    """

    def __init__(self, folder: Path, run_key: str, report: Callable[[str], None]) -> None:
        """Args:
        folder: where the checkpoints are.
        run_key: digest of what the run is; a folder of another run is refused.
        report: receives a line for each damaged checkpoint that is passed over.
        """
        self.folder = folder
        self.run_key = run_key
        self.report = report

    def save(self, state: TrainingState) -> Path:
        """Write the state, then drop all but the newest `KEEP`."""
        path = self.folder / f"{state.iteration:09d}.safetensors"
        save_tensors(path, state.tensors(), state.counters())
        atomic_write(
            path.with_suffix(".json"), json.dumps({"run_key": self.run_key, "sha256": sha256_file(path)}) + "\n"
        )
        for old in self._newest_first()[KEEP:]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
        return path

    def load_latest(self, state: TrainingState) -> Path | None:
        """Restore the newest good checkpoint into `state`.

        Returns:
            The file it came from; None where there is none and the run starts anew.

        Raises:
            InputError: the checkpoints belong to another run.
        """
        for marker in self._newest_first():
            path = marker.with_suffix(".safetensors")
            try:
                expected = json.loads(marker.read_text())
                if expected["run_key"] != self.run_key:
                    raise InputError(
                        f"{self.folder} holds checkpoints of another recipe, teacher, prompt set or code; "
                        "give another folder, or delete it to start anew"
                    )
                if not path.is_file() or sha256_file(path) != expected["sha256"]:
                    raise ValueError("its content does not match its digest")
                state.restore(*load_tensors(path))
            except (ValueError, KeyError) as error:
                self.report(f"checkpoint {path} is damaged ({error}): passed over")
                continue
            return path
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"), reverse=True)
