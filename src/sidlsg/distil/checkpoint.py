"""Checkpoints of a training state: sharded, written atomically while training continues, verified when they are read.

One folder a checkpoint, `<iteration>/`, on disk or on S3: safetensors files, and `checkpoint.json` with their digests,
which comes last. Without it a checkpoint was cut off and does not count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from sidlsg.distil.run_identity import ITERATION, MANIFEST, Manifest, RunIdentity
from sidlsg.distil.state import TrainingState
from sidlsg.distil.tensor_shards import damage, load_shards, on_host, require_finite, save_shards
from sidlsg.runtime.distributed import World
from sidlsg.runtime.errors import ContentError, InputError, SidlsgError
from sidlsg.storage.files import atomic_write, sha256_file
from sidlsg.storage.store import Store
from sidlsg.storage.uri import open_store

_NAME = re.compile(rf"({ITERATION})/({re.escape(MANIFEST)}|(?:half-)?shard-[^/]*\.safetensors)")
_UNFINISHED = ".unfinished-"
_BEFORE = "-before"


@dataclass
class Checkpoints:
    """The checkpoints of one run in one folder or S3 prefix."""

    uri: str
    """A folder, or `s3://bucket/prefix`."""
    run: RunIdentity
    report: Callable[[str], None]
    """Receives a line for each damaged checkpoint that is passed over, and each that could not be written."""
    world: World = field(default_factory=World)
    keep: int = 2
    """How many stay, newest first, and besides them the one with the best score."""
    accept_changes: bool = False
    """Whether to continue a run whose recipe, teacher, prompts, seed or version of the numerics was another."""
    count: Callable[[], None] | None = None
    """Called at rank 0 for each checkpoint that was written, from the thread that wrote it."""
    _writing: tuple[ThreadPoolExecutor, Future[None]] | None = None
    _saved: tuple[int, bool] | None = None
    """Iteration, and whether its fake score's update was done, of what this process wrote last."""
    _damaged: set[int] = field(default_factory=set)
    """The iterations whose checkpoints were passed over."""
    _spared: set[int] = field(default_factory=set)
    """Those of them that are not deleted: all were damaged, and the user may repair what made them so."""

    def __post_init__(self) -> None:
        # On disk; None on S3.
        self.folder = None if "://" in self.uri else Path(self.uri).expanduser()
        self._store: Store = open_store(self.uri)
        # Of this process and this URI alone; those of others may be in use.
        self._temporary = f"sidlsg-{hashlib.sha256(self.uri.encode()).hexdigest()[:16]}-{self.world.rank}-"
        self._clear_remains()

    def save(self, state: TrainingState, score: float | None = None, wait: bool = False) -> None:
        """Write the state as it is now; training may continue at once.

        Where it cannot be written, that is reported, or raised as `SidlsgError` with `wait`; the earlier ones stay.

        Args:
            state: what to save.
            score: of the EMA at this point, lower is better; None where it was not evaluated.
            wait: return only when it is written.
        """
        self.wait()
        done = (state.iteration, state.fake_score_done)
        if done == self._saved:
            return  # asked to end right after it was written
        counters = json.loads(json.dumps(state.counters()))
        manifest = Manifest(state.iteration, self.run, counters, {}, score)
        executor = ThreadPoolExecutor(1, "checkpoint")  # a process that ends waits for its thread
        writing = executor.submit(self._save, on_host(state.tensors()), manifest, done, reporting=not wait)
        self._writing = executor, writing
        if wait:
            self.wait(raising=True)

    def wait(self, raising: bool = False) -> None:
        """Wait for the checkpoint that is being written, if one is; with `raising`, raise its error."""
        if self._writing is None:
            return
        (executor, writing), self._writing = self._writing, None
        executor.shutdown()
        try:
            writing.result()
        except SidlsgError:
            if raising:
                raise

    def load_latest(self, state: TrainingState) -> str | None:
        """Restore the newest good checkpoint into `state`; returns its URI, or None where there is none.

        Raises:
            InputError: the checkpoints belong to another run, and changes are not accepted.
        """
        self._saved = None
        # Rank 0's list: others may see a shared folder a moment earlier or later.
        for iteration in reversed(self.world.gather(self.iterations() if self.world.is_rank0 else [])[0]):
            name = f"{self.uri.rstrip('/')}/{iteration:09d}"
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
        """The manifest of a checkpoint.

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
        scores: dict[int, float] = {}
        for iteration in self._good():
            # One that cannot be read has no score, whether or not it was checked before.
            with contextlib.suppress(ValueError, ContentError):
                score = self.manifest(iteration).score
                if score is not None:
                    scores[iteration] = score
        return min(scores, key=lambda iteration: (scores[iteration], -iteration), default=None)

    def _good(self) -> list[int]:
        return [iteration for iteration in self.iterations() if iteration not in self._damaged]

    def _found(self) -> list[re.Match[str]]:
        """All files of checkpoints, complete or not: the iteration, and the name in its folder."""
        return [match for name in self._store.names() if (match := _NAME.fullmatch(name))]

    def _clear_remains(self) -> None:
        """Delete what a run that was killed left; no other process writes here."""
        for left in Path(tempfile.gettempdir()).glob(f"{self._temporary}*"):
            process = left.name.removeprefix(self._temporary).partition("-")[0]
            if not Path(f"/proc/{process}").exists():
                shutil.rmtree(left, ignore_errors=True)
        if self.folder is None or not self.world.is_rank0:
            return
        for left in self.folder.glob(f"{_UNFINISHED}*{_BEFORE}"):
            target = self.folder / left.name.removeprefix(_UNFINISHED).removesuffix(_BEFORE)
            if not target.exists():  # killed before the new one was renamed to it
                os.replace(left, target)
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _save(self, tensors: dict[str, Tensor], manifest: Manifest, done: tuple[int, bool], reporting: bool) -> None:
        """Write a checkpoint in the background; with `reporting`, an error is reported at once, and not at `wait`."""
        try:
            self._write(tensors, manifest)
        except (SidlsgError, OSError) as error:
            complaint = f"checkpoint {manifest.iteration} could not be written to {self.uri}: {_one_line(error)}"
            if reporting and self.world.is_rank0:
                self.report(f"{complaint}; training continues, and {self._fallback()}")
            raise SidlsgError(f"{complaint}; {self._fallback()}") from error
        self._saved = done
        if self.count is not None and self.world.is_rank0:
            self.count()

    def _write(self, tensors: dict[str, Tensor], manifest: Manifest) -> None:
        """Write a checkpoint: each process its own parts, and rank 0 the manifest."""
        name = f"{manifest.iteration:09d}"
        with self._failing_together():
            require_finite(tensors)
        with self._scratch(name) as folder:
            paths = save_shards(tensors, folder, self.world)
            with self._failing_together():
                # On S3 a file cannot be replaced together with the others. Half an iteration later the
                # checkpoint has the same number, so its files get other names.
                half = "half-" if self.folder is None and manifest.counters["fake_score_done"] else ""
                files = {f"{half}{path.name}": sha256_file(path) for path in paths}
                if self.folder is None:
                    for path, (file, digest) in zip(paths, files.items(), strict=True):
                        self._store.put(f"{name}/{file}", path, digest)
            everyone = {file: digest for part in self.world.gather(files) for file, digest in part.items()}
            with self._failing_together():
                if self.world.is_rank0:
                    self._publish(name, folder, replace(manifest, files=everyone))
        self._damaged.discard(manifest.iteration)
        if self.world.is_rank0:
            try:
                self._delete_old(name, everyone)
            except (OSError, SidlsgError) as error:
                self.report(
                    f"checkpoint {manifest.iteration} is written; older ones could not be deleted: {_one_line(error)}"
                )

    @contextlib.contextmanager
    def _failing_together(self) -> Iterator[None]:
        """Where the block fails in one process, it fails in all: none continues as if a checkpoint were there."""
        problem: Exception | None = None
        try:
            yield
        except (OSError, SidlsgError) as error:
            problem = error
        first = self._first_problem(None if problem is None else _one_line(problem))
        if first is not None:
            raise problem or SidlsgError(first)

    @contextlib.contextmanager
    def _scratch(self, name: str) -> Iterator[Path]:
        """A temporary folder for the files, next to the target on disk, so that publishing only renames it."""
        if self.folder is None:
            with self._failing_together():  # else the others would wait for this process's parts
                folder = Path(tempfile.mkdtemp(prefix=f"{self._temporary}{os.getpid()}-"))
        else:
            # Made by what writes into it, where all processes learn of one that cannot.
            folder = self.folder / f"{_UNFINISHED}{name}"
        try:
            yield folder
        finally:
            if self.folder is None or self.world.is_rank0:
                shutil.rmtree(folder, ignore_errors=True)

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

    def _delete_old(self, name: str, files: Mapping[str, str]) -> None:
        """Delete all but this one of `files`, the newest and the best, and what killed runs left incomplete."""
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
                f"{self.uri} holds checkpoints of another run: {'; '.join(changed)}. Give another folder, or delete "
                "it to start anew, or give --accept-changes to resume from it all the same"
            )
        with self._files(iteration, manifest) as (folder, problem):
            problem = self._first_problem(problem)
            if problem is None:
                try:
                    load_shards(state.tensors(), folder, self.world)
                except ValueError as error:
                    raise InputError(
                        f"{self.uri} holds checkpoints of networks or optimizers of another kind ({error}); "
                        "give another folder"
                    ) from error
                state.set_counters(manifest.counters)
        return problem

    @contextlib.contextmanager
    def _files(self, iteration: int, manifest: Manifest) -> Iterator[tuple[Path, str | None]]:
        """The checkpoint's files on this machine, and what is wrong with those that this process checked."""
        name = f"{iteration:09d}"
        if self.folder is not None:
            folder = self.folder / name
            # Each process reads a part of the files, and they exchange what they found.
            yield folder, damage(folder, manifest.files, sorted(manifest.files)[self.world.rank :: self.world.size])
            return
        with contextlib.ExitStack() as stack:
            # One process of each machine fetches them for all; torchrun numbers a machine's processes in a row.
            mine = ""
            if self.world.local_rank == 0:
                mine = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{self._temporary}{os.getpid()}-"))
            scratch = Path([name for name in self.world.gather(mine)[: self.world.rank + 1] if name][-1])
            problem = None
            if mine:
                try:
                    for file, digest in manifest.files.items():
                        self._store.get(f"{name}/{file}", scratch / file, digest)
                except ContentError as error:
                    problem = str(error)
            yield scratch, problem
            self.world.gather(None)  # all have read them

    def _first_problem(self, mine: str | None) -> str | None:
        return next((text for text in self.world.gather(mine) if text), None)

    def _fallback(self) -> str:
        try:
            complete = self.iterations()
        except SidlsgError:
            return "what was written before could not be looked up now"
        return f"the newest complete one is {complete[-1]}" if complete else "there is no complete one yet"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
