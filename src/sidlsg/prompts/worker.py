"""The start of a worker process; this module imports nothing that starts threads."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process

THREADS = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""A worker has one thread: workers, not threads, share a machine's cores."""


def begin() -> None:
    """Use one thread, and end whenever the parent process ends."""
    os.environ.update(THREADS)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        # At once: an orphan must not write while another run resumes its work.
        os._exit(1)
