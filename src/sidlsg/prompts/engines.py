"""Engines by name: in this process, in several processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from sidlsg.prompts.phases.phases import forget, run_task
from sidlsg.prompts.work import Task
from sidlsg.prompts.worker import THREADS, begin
from sidlsg.runtime.errors import InputError, SidlsgError


class Engine:
    """Runs tasks one after the other in this process. Other engines run them elsewhere, with the same result."""

    def __init__(self) -> None:
        forget()

    def run(self, uri: str, tasks: Sequence[Task], done: Callable[[Task], None]) -> None:
        """Run tasks of a work folder, in any order or in parallel, and call `done` after each."""
        for task in tasks:
            run_task(uri, task)
            done(task)

    def close(self) -> None:
        """End the workers."""


class Processes(Engine):
    """Worker processes of this machine."""

    def __init__(self, workers: int) -> None:
        # Fork would copy locks that this process's threads hold; a spawned worker starts clean.
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin)

    def run(self, uri: str, tasks: Sequence[Task], done: Callable[[Task], None]) -> None:
        """See `Engine`."""
        waiting: dict[Future[None], Task] = {}
        try:
            waiting.update((self._pool.submit(run_task, uri, task), task) for task in tasks)
            for future in as_completed(waiting):
                future.result()
                done(waiting[future])
        except BrokenProcessPool as error:
            raise SidlsgError(
                "a worker process ended in the middle of a task, perhaps for lack of memory; give fewer workers: "
                "the same command resumes with the tasks that are left"
            ) from error
        except BaseException:
            for future in waiting:
                future.cancel()
            raise

    def close(self) -> None:
        """See `Engine`."""
        self._pool.shutdown(cancel_futures=True)


class Ray(Engine):
    """Tasks of a Ray cluster, or of a Ray that is started on this machine."""

    def __init__(self, address: str, workers: int) -> None:
        """Connect to a cluster such as `auto` or `ray://HOST:10001`; `local` starts one here with `workers` CPUs."""
        try:
            import ray
        except ImportError as error:
            raise InputError("engine ray needs the package ray; install it with pip install 'sidlsg[ray]'") from error
        self._ray = ray
        local = address == "local"
        options: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if local else {"address": address}
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, ValueError, RuntimeError, ImportError) as error:
            raise InputError(f"no Ray cluster at {address!r}: {error}; give the address of one") from error
        self._task = ray.remote(num_cpus=1, max_retries=3, runtime_env={"env_vars": THREADS})(run_task)

    def run(self, uri: str, tasks: Sequence[Task], done: Callable[[Task], None]) -> None:
        """See `Engine`."""
        waiting = {self._task.remote(uri, task): task for task in tasks}
        try:
            while waiting:
                ready, _ = self._ray.wait(list(waiting), num_returns=1)
                for reference in ready:
                    self._ray.get(reference)
                    done(waiting.pop(reference))
        except self._ray.exceptions.RayTaskError as error:
            for reference in waiting:
                self._ray.cancel(reference)
            # The cause is the task's own error, with its type.
            raise (error.cause if isinstance(error.cause, SidlsgError | OSError) else error) from error
        except self._ray.exceptions.RayError as error:
            raise SidlsgError(f"Ray could not finish: {error}; the same command resumes") from error

    def close(self) -> None:
        """See `Engine`."""
        self._ray.shutdown()


def open_engine(name: str, workers: int) -> Engine:
    """An engine by name: `native`, `ray` for this machine alone, or `ray://HOST:PORT` or `ray:auto` for a cluster."""
    if workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more")
    if name == "native":
        return Engine() if workers == 1 else Processes(workers)
    if name == "ray":
        return Ray("local", workers)
    if name.startswith("ray:"):
        return Ray(name if name.startswith("ray://") else name.removeprefix("ray:"), workers)
    raise InputError(f"engine {name!r} is unknown; allowed: native, ray, ray:auto and ray://HOST:PORT")
