"""A state's tensors as safetensors files, each process with its own parts, by `torch.distributed.checkpoint`.

The library puts the parts together again for another number of processes.
"""

from __future__ import annotations

import contextlib
import errno
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from sidlsg.distil.networks import local
from sidlsg.runtime.distributed import World
from sidlsg.runtime.errors import NotFiniteError, SidlsgError
from sidlsg.storage.files import sha256_file
from sidlsg.storage.tensors import first_not_finite

FILE_BYTES = 2**30
"""About how large a file gets: writing one needs its size in memory once more."""


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the host's memory that training does not change, laid out as files need them."""
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()  # offloaded states may still be on their way to the host
    return {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse a state that is damaged: it must not replace good checkpoints.

    Raises:
        NotFiniteError: a tensor holds values that are not finite.
    """
    # torch has no such test for all floats of 8 bits.
    wide = {name: local(each) for name, each in tensors.items() if each.is_floating_point() and each.itemsize > 1}
    if (name := first_not_finite(wide)) is not None:
        raise NotFiniteError(f"{name} holds values that are not finite; resume from an earlier one with a lower lr")


def save_shards(tensors: dict[str, Tensor], folder: Path, world: World) -> list[Path]:
    """Write tensors that are on the host; returns this process's files.

    Raises:
        OSError: in one of the processes, as are other errors; raised in all.
    """
    numbers, number, size = {}, 1, 0
    for name, tensor in tensors.items():
        if size and size + tensor.nbytes > FILE_BYTES:
            number, size = number + 1, 0
        numbers[name] = number
        size += tensor.nbytes
    writer = HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=numbers, save_distributed=True)
    try:
        with _one_process_is_meant():
            save(tensors, storage_writer=writer, process_group=world.background, no_dist=world.size == 1)
    except CheckpointException as error:
        raise _cause(error) from error
    return sorted(folder.glob(f"shard-{world.rank + 1:05d}-*.safetensors"))


def load_shards(tensors: dict[str, Tensor], folder: Path, world: World) -> None:
    """Restore tensors in place.

    Raises:
        ValueError: the files hold other tensors.
    """
    reader = HuggingFaceStorageReader(str(folder))
    try:
        with _one_process_is_meant():
            load(tensors, storage_reader=reader, process_group=world.background, no_dist=world.size == 1)
    except CheckpointException as error:
        raise ValueError(str(_cause(error))) from error


def damage(folder: Path, digests: Mapping[str, str], checked: Collection[str]) -> str | None:
    """What is wrong with a folder of shards, given the SHA-256 of all of its files and the names to check here."""
    # The library reads all tensors of a folder.
    if extra := sorted({path.name for path in folder.glob("*.safetensors")} - digests.keys()):
        return f"{extra[0]} is in the folder, but its manifest does not list it"
    for file in checked:
        if not (folder / file).is_file():
            return f"{file} is missing"
        if sha256_file(folder / file) != digests[file]:
            return f"the content of {file} does not match its digest"
    return None


def _cause(error: CheckpointException) -> Exception:
    """The library wraps what went wrong, by process: a full disk where one reports that, else the first."""
    failures = [failure[0] for failure in error.failures.values()]
    if any(isinstance(failure, OSError) and failure.errno == errno.ENOSPC for failure in failures):
        return OSError(errno.ENOSPC, "no space left on the device; free some, and the next checkpoint is written")
    return failures[0] if isinstance(failures[0], Exception) else SidlsgError(str(failures[0]))


@contextlib.contextmanager
def _one_process_is_meant() -> Iterator[None]:
    """Without the library's warning that it runs in one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
