"""Kubeflow Pipelines' local Docker runner, corrected: it lets containers remove themselves, and takes one that is gone
before it was asked for its exit code for one that succeeded."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kfp.local import docker_task_handler

LIMITS: Mapping[str, Any] = {
    "network_mode": "none",
    "mem_limit": "4g",
    "memswap_limit": "4g",
    "pids_limit": 512,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "read_only": True,
    "tmpfs": {"/tmp": "size=1g,mode=1777"},
    "shm_size": "256m",
}
"""What every step of a run in these tests has to live with."""


def run_container(client: Any, image: str, command: list[str], volumes: dict[str, Any], **options: Any) -> int:
    """Run a container to its end; one that fails raises RuntimeError with its last lines."""
    # Images that were built here have no name with a digest, only an id.
    local = image.rpartition("@")[2]
    container = client.containers.create(image=local, command=command, volumes=volumes, **options)
    try:
        container.start()
        last: deque[str] = deque(maxlen=20)
        for line in container.logs(stream=True, follow=True):
            last.append(line.decode())
            print(last[-1], end="")
        code = int(container.wait()["StatusCode"])
        if code:
            container.reload()
            killed = ", killed for memory" * container.attrs["State"]["OOMKilled"]
            raise RuntimeError(f"{image} ended with {code}{killed}: {''.join(last)}")
        return code
    finally:
        container.remove(force=True)


@contextlib.contextmanager
def corrected() -> Iterator[None]:
    """The runner asks `run_container` within."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docker_task_handler, "run_docker_container", run_container)
        yield
