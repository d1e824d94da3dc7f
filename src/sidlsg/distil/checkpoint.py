"""Checkpoints of a training state: sharded, written whole behind training's back, verified when they are read.

One folder a checkpoint, `<iteration>/`, on disk or on S3: safetensors files, and `checkpoint.json` with their digests,
which comes last. Without it a checkpoint was cut off and does not count. Tensors go through
`torch.distributed.checkpoint`, which puts the parts together again for another number of processes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from sidlsg.distil.identity import RunIdentity
from sidlsg.distil.parallel import local
from sidlsg.distil.state import Counters, TrainingState
from sidlsg.runtime.distributed import World
from sidlsg.runtime.errors import ContentError, InputError, NotFiniteError, SidlsgError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.files import atomic_write, sha256_bytes, sha256_file
from sidlsg.storage.store import Store
from sidlsg.storage.tensors import first_not_finite
from sidlsg.storage.uri import open_store

MANIFEST = "checkpoint.json"
FILE_BYTES = 2**30
"""About how large a file gets: writing one needs its size in memory once more."""
_NAME = re.compile(rf"(\d{{9}})/({re.escape(MANIFEST)}|(?:half-)?shard-[^/]*\.safetensors)")
_UNFINISHED = ".unfinished-"
_BEFORE = "-before"


@dataclass(frozen=True)
class Manifest:
    """What `checkpoint.json` says."""

    iteration: int
    run: RunIdentity
    counters: dict[str, Any]
    files: dict[str, str]
    """SHA-256 by name."""
    score: float | None = None
    """Of the EMA, where it was evaluated at this point; lower is better."""

    def to_json(self) -> str:
        """JSON text, with a digest of the rest in it."""
        values = {**vars(self), "run": self.run.parts}
        return json.dumps({**values, "sha256": _values_digest(values)}, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read it.

        Raises:
            ValueError: it is damaged.
        """
        try:
            values = parse_json(text)
            if values.pop("sha256") != _values_digest(values):
                raise ValueError("another digest")
            Counters.from_json(json.dumps(values["counters"]))
            values["run"] = {"parts": values["run"]}
            return TypeAdapter(cls).validate_json(json.dumps(values), strict=True)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"its {MANIFEST} is damaged") from error


def _values_digest(values: Mapping[str, Any]) -> str:
    return sha256_bytes(json.dumps(values, sort_keys=True).encode())


@dataclass
class _Writing:
    """A checkpoint on its way."""

    thread: threading.Thread
    iteration: int
    error: BaseException | None = None


@dataclass
class Checkpoints:
    """The checkpoints of one run at one place."""

    place: str
    """A folder, or `s3://bucket/prefix`."""
    run: RunIdentity
    report: Callable[[str], None]
    """Receives a line for each damaged checkpoint that is passed over, and each that could not be written."""
    world: World = field(default_factory=World)
    keep: int = 2
    """How many stay, newest first; the one with the best score stays besides."""
    accept_changes: bool = False
    """Whether to continue a run whose recipe, teacher, prompts, seed or version of the numerics was another."""
    count: Callable[[], None] | None = None
    """Called in the leading process for each checkpoint that was written, from the thread that wrote it."""
    _writing: _Writing | None = None
    _saved: tuple[int, bool] | None = None
    """Iteration, and whether its fake score's update was done, of what this process wrote last."""
    _damaged: set[int] = field(default_factory=set)
    """The iterations whose checkpoints were passed over."""
    _spared: set[int] = field(default_factory=set)
    """Those of them that stay all the same, for all were damaged: somebody may mend what made them so."""

    def __post_init__(self) -> None:
        # On disk; None on S3.
        self.folder = None if "://" in self.place else Path(self.place).expanduser()
        self._store: Store = open_store(self.place)
        # Of this process at this place alone; another place's may be in use.
        self._temporary = f"sidlsg-{hashlib.sha256(self.place.encode()).hexdigest()[:16]}-{self.world.rank}-"
        self._clear_remains()

    def save(self, state: TrainingState, score: float | None = None, wait: bool = False) -> None:
        """Write the state as it is now; training may go on at once.

        A checkpoint that cannot be written is reported, and the earlier ones stay.

        Args:
            state: what to save.
            score: of the EMA at this point, lower is better; None where it was not evaluated.
            wait: return only when it is written.

        Raises:
            SidlsgError: with `wait`, it could not be written.
        """
        self.wait()
        done = (state.iteration, state.fake_score_done)
        if done == self._saved:
            return  # asked to end right after it was written
        if state.device.type == "cuda":
            torch.cuda.synchronize()  # offloaded states may still be on their way to the host
        staged = {name: _on_host(tensor) for name, tensor in state.tensors().items()}
        counters = json.loads(json.dumps(state.counters()))
        writing = _Writing(threading.Thread(target=lambda: None), state.iteration)

        def write() -> None:
            try:
                self._write(staged, Manifest(state_iteration, self.run, counters, {}, score))
                self._saved = done
                if self.count is not None and self.world.is_rank0:
                    self.count()
            except BaseException as error:  # a thread's errors would be lost
                writing.error = error
                if not wait and self.world.is_rank0 and isinstance(error, SidlsgError | OSError):
                    # At once, not when somebody waits for the next one.
                    self.report(f"{self._complaint(writing)}; training goes on, and {self._fallback()}")

        state_iteration = state.iteration
        # Not a daemon: a process that ends waits until its checkpoint is written.
        writing.thread = threading.Thread(target=write, name="checkpoint")
        self._writing = writing
        writing.thread.start()
        if wait:
            self.wait(raising=True)

    def wait(self, raising: bool = False) -> None:
        """Wait for the checkpoint that is being written, if one is.

        Args:
            raising: raise its error, which has been reported else.

        Raises:
            SidlsgError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return
        writing.thread.join()
        error = writing.error
        if error is not None and not isinstance(error, SidlsgError | OSError):
            raise error
        if error is not None and raising:
            raise SidlsgError(f"{self._complaint(writing)}; {self._fallback()}") from error

    def load_latest(self, state: TrainingState) -> str | None:
        """Restore the newest good checkpoint into `state`.

        Returns:
            Where it came from; None where there is none and the run starts anew.

        Raises:
            InputError: the checkpoints belong to another run, and changes are not accepted.
        """
        self._saved = None
        for iteration in reversed(self._agreed(self.iterations)):
            name = f"{self.place.rstrip('/')}/{iteration:09d}"
            problem = self._load(iteration, state)
            if problem is None:
                return name
            if self.world.is_rank0:
                self.report(f"checkpoint {name} is damaged ({problem}): passed over")
            self._damaged.add(iteration)
        self._spared = set(self._damaged)
        return None

    def iterations(self) -> list[int]:
        """The iterations of all complete checkpoints, in order."""
        return sorted(int(match[1]) for match in self._found() if match[2] == MANIFEST)

    def manifest(self, iteration: int) -> Manifest:
        """What a checkpoint says of itself.

        Raises:
            ValueError: it is damaged.
            SidlsgError: it cannot be read.
        """
        found = Manifest.from_json(self._store.read(f"{iteration:09d}/{MANIFEST}"))
        if found.iteration != iteration:
            raise ValueError(f"its {MANIFEST} is that of iteration {found.iteration}")
        return found

    def best(self) -> int | None:
        """The iteration of the checkpoint with the best score; None where none has one."""
        scores = {}
        for iteration in self._good():
            # One that cannot be read has no score, whether or not it was looked at before.
            with contextlib.suppress(ValueError, ContentError):
                scores[iteration] = self.manifest(iteration).score
        scored = {iteration: score for iteration, score in scores.items() if score is not None}
        return min(scored, key=lambda iteration: (scored[iteration], -iteration), default=None)

    def _good(self) -> list[int]:
        return [iteration for iteration in self.iterations() if iteration not in self._damaged]

    def _found(self) -> list[re.Match[str]]:
        """All files of checkpoints, complete or not: the iteration, and the name in its folder."""
        return [match for name in self._store.names() if (match := _NAME.fullmatch(name))]

    def _clear_remains(self) -> None:
        """Delete what a run that was killed left; nobody else writes here."""
        for left in Path(tempfile.gettempdir()).glob(f"{self._temporary}*"):
            process = left.name.removeprefix(self._temporary).partition("-")[0]
            if not Path(f"/proc/{process}").exists():
                shutil.rmtree(left, ignore_errors=True)
        if self.folder is None or not self.world.is_rank0:
            return
        for left in self.folder.glob(f"{_UNFINISHED}*{_BEFORE}"):
            target = self.folder / left.name.removeprefix(_UNFINISHED).removesuffix(_BEFORE)
            if not target.exists():  # killed before the new one took its place
                os.replace(left, target)
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _write(self, staged: dict[str, Tensor], manifest: Manifest) -> None:
        """What the background does; every process, each with its own parts."""
        name = f"{manifest.iteration:09d}"
        self._fail_together(_not_finite(staged))
        with self._scratch(name) as folder:
            self._save_tensors(staged, folder)
            mine = sorted(folder.glob(f"shard-{self.world.rank + 1:05d}-*.safetensors"))
            problem: Exception | None = None
            files: dict[str, str] = {}
            try:
                # On S3 a file cannot take another's place together with the rest. Half an iteration later the
                # checkpoint has the same number, so its files get names of their own.
                half = "half-" if self.folder is None and manifest.counters["fake_score_done"] else ""
                files = {f"{half}{path.name}": sha256_file(path) for path in mine}
                if self.folder is None:
                    for path, (file, digest) in zip(mine, files.items(), strict=True):
                        self._store.put(f"{name}/{file}", path, digest)
            except (OSError, SidlsgError) as error:
                problem = error
            self._fail_together(problem)
            everyone = {name: digest for part in self.world.gather(files) for name, digest in part.items()}
            if self.world.is_rank0:
                try:
                    self._publish(name, folder, Manifest(**{**vars(manifest), "files": everyone}))
                except (OSError, SidlsgError) as error:
                    problem = error
            self._fail_together(problem)
        self._damaged.discard(manifest.iteration)
        if self.world.is_rank0:
            try:
                self._drop_old(name, everyone)
            except (OSError, SidlsgError) as error:
                reason = " ".join(str(error).split())
                self.report(f"checkpoint {manifest.iteration} is written; older ones could not be deleted: {reason}")

    def _fail_together(self, problem: Exception | None) -> None:
        """Raise this process's problem, or the first of another's: none goes on as if a checkpoint were there."""
        first = self._first_problem(None if problem is None else " ".join(str(problem).split()))
        if problem is not None:
            raise problem
        if first is not None:
            raise SidlsgError(first)

    @contextlib.contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        """Where files are made: beside the target for a folder, so that they need only be renamed."""
        if self.folder is None:
            folder, problem = Path(), None
            try:
                folder = Path(tempfile.mkdtemp(prefix=f"{self._temporary}{os.getpid()}-"))
            except OSError as error:
                problem = error
            self._fail_together(problem)  # else the others would wait for this process's parts
        else:
            # Made by what writes into it, where all processes learn of one that cannot.
            folder = self.folder / f"{_UNFINISHED}{name}"
        try:
            yield folder
        finally:
            if self.folder is None or self.world.is_rank0:
                shutil.rmtree(folder, ignore_errors=True)

    def _save_tensors(self, staged: dict[str, Tensor], folder: Path) -> None:
        numbers, number, size = {}, 1, 0
        for name, tensor in staged.items():
            if size and size + tensor.nbytes > FILE_BYTES:
                number, size = number + 1, 0
            numbers[name] = number
            size += tensor.nbytes
        writer = HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=numbers, save_distributed=True)
        alone = self.world.size == 1
        try:
            with _quiet():
                save(staged, storage_writer=writer, process_group=self.world.background, no_dist=alone)
        except CheckpointException as error:
            raise _cause(error) from error

    def _publish(self, name: str, folder: Path, manifest: Manifest) -> None:
        if self.folder is None:
            self._store.write(f"{name}/{MANIFEST}", manifest.to_json().encode())
            return
        atomic_write(folder / MANIFEST, manifest.to_json())
        target = self.folder / name
        aside = self.folder / f"{_UNFINISHED}{name}{_BEFORE}"
        if target.exists():  # a damaged one of the same iteration, or half an iteration earlier
            os.replace(target, aside)
        os.replace(folder, target)
        shutil.rmtree(aside, ignore_errors=True)

    def _drop_old(self, name: str, files: Mapping[str, str]) -> None:
        """Delete all but the newest and the best, and what runs that were killed left half sent or half deleted.

        Args:
            name: of the checkpoint that was just written.
            files: what belongs to it.
        """
        stay = {*self._good()[-self.keep :], self.best(), *self._spared}
        ours = {MANIFEST, *files}
        go = [
            match for match in self._found() if int(match[1]) not in stay or (match[1] == name and match[2] not in ours)
        ]
        # The manifests first: a checkpoint that is half deleted must not count.
        self._store.delete([match[0] for match in go if match[2] == MANIFEST])
        self._store.delete([match[0] for match in go if match[2] != MANIFEST])

    def _load(self, iteration: int, state: TrainingState) -> str | None:
        """Restore one checkpoint; returns what is wrong with it, if something is, before anything was restored."""
        problem, manifest = None, None
        try:
            manifest = self.manifest(iteration)
        except (ValueError, ContentError) as error:
            problem = str(error)
        problem = self._first_problem(problem)
        if manifest is None or problem is not None:
            return problem
        changed = self.run.differences(manifest.run)
        if changed and not self.accept_changes:
            raise InputError(
                f"{self.place} holds checkpoints of another run: {'; '.join(changed)}. Give another folder, or delete "
                "it to start anew, or give --accept-changes to go on from it all the same"
            )
        with self._files(iteration, manifest) as (folder, problem):
            problem = self._first_problem(problem)
            if problem is None:
                tensors = state.tensors()
                with _quiet():
                    try:
                        load(
                            tensors,
                            storage_reader=HuggingFaceStorageReader(str(folder)),
                            process_group=self.world.background,
                            no_dist=self.world.size == 1,
                        )
                    except CheckpointException as error:
                        raise InputError(
                            f"{self.place} holds checkpoints of networks or optimizers of another kind "
                            f"({_cause(error)}); give another folder"
                        ) from error
                state.set_counters(manifest.counters)
        return problem

    @contextlib.contextmanager
    def _files(self, iteration: int, manifest: Manifest) -> Iterator[tuple[Path, str | None]]:
        """The checkpoint's files on this machine, and what is wrong with those that this process looked at."""
        name = f"{iteration:09d}"
        files = sorted(manifest.files.items())
        if self.folder is not None:
            folder = self.folder / name
            # Each process reads a part of the files, and they tell each other.
            yield folder, _unnamed(folder, files) or _damage(folder, files[self.world.rank :: self.world.size])
            return
        with contextlib.ExitStack() as stack:
            # One process of each machine fetches them for all; torchrun numbers a machine's processes in a row.
            mine = ""
            if self.world.local_rank == 0:
                mine = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{self._temporary}{os.getpid()}-"))
            scratch = Path([place for place in self.world.gather(mine)[: self.world.rank + 1] if place][-1])
            problem = None
            if mine:
                try:
                    for file, digest in files:
                        self._store.get(f"{name}/{file}", scratch / file, digest)
                except ContentError as error:
                    problem = str(error)
            yield scratch, problem
            self.world.gather(None)  # all have read them

    def _first_problem(self, mine: str | None) -> str | None:
        return next((text for text in self.world.gather(mine) if text), None)

    def _agreed(self, look: Callable[[], list[int]]) -> list[int]:
        """What the leading process sees: others may see a shared folder a moment earlier or later."""
        found: list[int] = self.world.gather(look() if self.world.is_rank0 else [])[0]
        return found

    def _complaint(self, writing: _Writing) -> str:
        reason = " ".join(str(writing.error).split())
        return f"checkpoint {writing.iteration} could not be written to {self.place}: {reason}"

    def _fallback(self) -> str:
        try:
            there = self.iterations()
        except SidlsgError:
            return "what was written before could not be looked up now"
        return f"the newest complete one is {there[-1]}" if there else "there is no complete one yet"


def _on_host(tensor: Tensor) -> Tensor:
    """A copy in the host's memory that training does not change, laid out as files need it."""
    return tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)


def _not_finite(staged: dict[str, Tensor]) -> Exception | None:
    """What is not finite first: a damaged state must not replace good checkpoints."""
    # Floats of 8 bits are left out: torch has no such test for all of them.
    wide = {name: local(each) for name, each in staged.items() if each.is_floating_point() and each.itemsize > 1}
    name = first_not_finite(wide)
    if name is None:
        return None
    return NotFiniteError(f"{name} holds values that are not finite; go on from an earlier one with a lower lr")


def _unnamed(folder: Path, files: list[tuple[str, str]]) -> str | None:
    """What the library would read as well, for it reads all tensors of a folder."""
    extra = sorted({path.name for path in folder.glob("*.safetensors")} - dict(files).keys())
    return f"{extra[0]} is there, though {MANIFEST} does not name it" if extra else None


def _damage(folder: Path, files: list[tuple[str, str]]) -> str | None:
    for file, digest in files:
        path = folder / file
        if not path.is_file():
            return f"{file} is missing"
        if sha256_file(path) != digest:
            return f"the content of {file} does not match its digest"
    return None


def _cause(error: CheckpointException) -> Exception:
    """The library wraps what went wrong, by process; the first that speaks of a full disk, else the first."""
    failures = [failure[0] for failure in error.failures.values()]
    for failure in failures:
        if isinstance(failure, OSError) and failure.errno == errno.ENOSPC:
            return OSError(errno.ENOSPC, "no space left on the device; free some, and the next checkpoint is written")
    first = failures[0]
    return first if isinstance(first, Exception) else SidlsgError(str(first))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice that it runs in one process, which is meant."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
