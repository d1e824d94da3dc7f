"""Reads a UNet from a pickled module without running anything that the pickle names.

A pickle is a program: it looks up names, calls what it finds and sets attributes. Here, names of a table resolve to the
classes below, names of the libraries in a pickled UNet resolve to stand-ins that only keep their state, and any other
name is refused. So the program reaches no object of torch or diffusers, only Python's containers and the classes below,
which hold data. Tensors are built afterwards, from checked numbers.

`python -m sidlsg.distil.student.pickles FILE OUTPUT` limits memory and time, which a pickle can also exhaust.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import resource
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from sidlsg.runtime.errors import InputError, SidlsgError, first_line

KEY = "ema"
"""The entry of the pickled dictionary that holds the UNet."""
UNET = "UNet2DConditionModel"
STAND_IN_PACKAGES = ("diffusers", "torch", "transformers", "accelerate", "training", "torch_utils", "dnnlib")
"""Their names become stand-ins: the libraries of a UNet, and the modules of the released code."""
STAND_IN_NAMES = ("functools.partial", "pathlib.PosixPath")
"""Further names in a module's attributes."""
MAX_BYTES = 8 * 2**30
"""Twice the size of Stable Diffusion's UNet in float32."""
MAX_MODULES = 100_000
MAX_DEPTH = 32
_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
}
_MEMORY = 4 * 2**30
"""Bytes for the interpreter and the libraries."""
_SECONDS = 60
_BYTES_A_SECOND = 20 * 2**20


class RefusedError(InputError):
    """The pickle asks for something that no pickled UNet needs."""


class PickledUnet(NamedTuple):
    """A UNet's configuration, as far as JSON can hold it, and its parameters and buffers by name."""

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]


class StandIn:
    """In place of an object of another class, with one subclass a name: keeps the state, and does nothing."""

    __slots__ = ("state",)
    name = ""

    def __new__(cls, *_: Any, **__: Any) -> StandIn:
        """Ignore the arguments."""
        self = super().__new__(cls)
        self.state = {}
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


# Every class below has a __setstate__: without one, the pickle could set attributes of the class itself.
class _Dictionary(dict[Any, Any]):
    """In place of OrderedDict and FrozenDict: keeps items, and ignores attributes."""

    __slots__ = ()

    def __setstate__(self, _: Any) -> None:
        pass


class _Storage:
    """In place of a storage: its bytes, read as a tensor when needed."""

    __slots__ = ("_content", "_dtype", "_flat", "taken")

    def __init__(self, content: Any, dtype: Any = None) -> None:
        if not isinstance(content, bytes):
            raise RefusedError("a storage without bytes")
        self._content, self._dtype = content, dtype if isinstance(dtype, torch.dtype) else None
        self._flat: torch.Tensor | None = None
        self.taken = False

    def __setstate__(self, _: Any) -> None:
        raise RefusedError("a storage with a state")

    def flat(self) -> torch.Tensor:
        """[N]: the whole storage."""
        if self._flat is None:
            content, self._content = self._content, b""
            if self._dtype is not None:
                self._flat = torch.frombuffer(bytearray(content), dtype=self._dtype)
            else:
                # A file of torch.save inside the file, which torch reads as weights only.
                found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                if not isinstance(found, torch.TypedStorage):
                    raise RefusedError(f"a {type(found).__name__} in place of a storage")
                self._flat = torch.empty(0, dtype=found.dtype).set_(found)
        return self._flat


class _Tensor:
    """In place of a tensor: its position in a storage."""

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
            raise RefusedError("a tensor that is not made of a storage, a size and strides")
        if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
            raise RefusedError("a tensor of impossible shape")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def __setstate__(self, _: Any) -> None:
        raise RefusedError("a tensor with a state")

    def build(self) -> torch.Tensor:
        """The tensor; no two share memory."""
        flat = self.storage.flat()
        count = math.prod(self.size)
        end = self.offset + 1 + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        # More elements than the storage has would repeat numbers.
        if count > len(flat) or (count and end > len(flat)):
            raise RefusedError(f"a tensor of {count:,} numbers in a storage of {len(flat):,}")
        tensor = flat.as_strided(self.size, self.stride, self.offset)
        alone = count == len(flat) and tensor.is_contiguous() and not self.storage.taken
        self.storage.taken = True
        return tensor if alone else tensor.clone(memory_format=torch.contiguous_format)


class _Parameter:
    """In place of a parameter: its tensor."""

    __slots__ = ()

    def __new__(cls, data: Any, *_: Any) -> Any:
        if not isinstance(data, _Tensor):
            raise RefusedError("a parameter that is not made of a tensor")
        return data

    def __setstate__(self, _: Any) -> None:
        raise RefusedError("a parameter with a state")


_TABLE: dict[str, type] = {
    "collections.OrderedDict": _Dictionary,
    "diffusers.configuration_utils.FrozenDict": _Dictionary,
    "torch.storage._load_from_bytes": _Storage,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch._utils._rebuild_parameter": _Parameter,
    "builtins.set": set,
    "__builtin__.set": set,
}


class _Reader(pickle.Unpickler):
    """Runs a pickle in which names resolve to the table's classes and to stand-ins."""

    def __init__(self, file: Any, archive: _Archive | None = None) -> None:
        super().__init__(file)
        self._archive = archive
        self._stand_ins: dict[str, type[StandIn]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _TABLE:
            return _TABLE[full]
        if module.split(".")[0] not in STAND_IN_PACKAGES and full not in STAND_IN_NAMES:
            raise RefusedError(f"the name {full[:200]!r}")
        if full not in self._stand_ins:
            self._stand_ins[full] = type("StandIn", (StandIn,), {"__slots__": (), "name": full})
        return self._stand_ins[full]

    def persistent_load(self, pid: Any) -> _Storage:
        if self._archive is None:
            raise RefusedError("something outside the file")
        return self._archive.storage(pid)


class _Archive:
    """A file of `torch.save`: a zip with one pickle and the storages."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        entries = archive.infolist()
        # torch does not compress; with compressed or overlapping entries a small file could fill the memory.
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not stored or sum(entry.file_size for entry in entries) > size:
            raise RefusedError("compressed or overlapping entries")
        names = {entry.filename for entry in entries}
        programs = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise InputError("it is a zip, but not one that torch.save wrote")
        self._zip, self._folder = archive, programs[0].partition("/")[0]
        order = f"{self._folder}/byteorder"
        if order in names and archive.read(order) != b"little":
            raise InputError("its numbers are not little-endian")

    def program(self) -> io.BytesIO:
        return io.BytesIO(self._zip.read(f"{self._folder}/data.pkl"))

    def storage(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage" or not isinstance(pid[2], str):
            raise RefusedError("something that is not a storage")
        kind = pid[1].name if isinstance(pid[1], type) and issubclass(pid[1], StandIn) else ""
        if kind not in _STORAGES:
            raise RefusedError(f"a storage of kind {kind or type(pid[1]).__name__}")
        return _Storage(self._zip.read(f"{self._folder}/data/{pid[2]}"), _STORAGES[kind])


def read_unet(file: Path) -> PickledUnet:
    """Read the UNet of a released checkpoint: a pickled dictionary with the entry `ema`, or one in a `torch.save` file.

    Raises:
        InputError: the file is too large, damaged, no such pickle, or asks for something else.
    """
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise InputError(
            f"{file} has {size / 2**30:.1f} GiB; a UNet of Stable Diffusion has at most 4: give the checkpoint of the "
            f"generator alone ({MAX_BYTES // 2**30} GiB are allowed)"
        )
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as opened:
                archive = _Archive(opened, size)
                loaded = _Reader(archive.program(), archive).load()
        else:
            with file.open("rb") as plain:
                loaded = _Reader(plain).load()
        root = _root(loaded)
        tensors: dict[str, torch.Tensor] = {}
        total = 0
        for name, found in _tensors(root):
            tensors[name] = found.build()
            total += tensors[name].nbytes
            if total > size:
                raise RefusedError("one storage many times over")
        return PickledUnet(config=_config(root), tensors=tensors)
    except RefusedError as error:
        raise InputError(
            f"{file} is refused: it asks for {error}, which no pickled UNet needs; nothing of it was run. "
            "Give a checkpoint that its authors published, and its SHA-256"
        ) from error
    except (MemoryError, RecursionError) as error:
        raise InputError(f"{file} is refused: it asks for more memory than a file of its size needs") from error
    except OSError:
        raise
    except Exception as error:  # a damaged pickle makes its reader raise nearly anything
        reason = first_line(error)
        raise InputError(f"{file} is not a checkpoint with a pickled UNet: {reason}; get it again") from error


def _root(loaded: Any) -> StandIn:
    if not isinstance(loaded, dict) or KEY not in loaded:
        raise InputError(f"it holds no dictionary with an entry {KEY!r}")
    root = loaded[KEY]
    kind = root.name if isinstance(root, StandIn) else type(root).__name__
    if not isinstance(root, StandIn) or kind.rpartition(".")[2] != UNET:
        raise InputError(f"its entry {KEY!r} is a {kind}, not a {UNET}")
    return root


def _tensors(root: StandIn) -> Iterator[tuple[str, _Tensor]]:
    """Parameters and persistent buffers by their names in a state dict."""
    waiting: list[tuple[str, Any]] = [("", root)]
    seen = 0
    while waiting:
        prefix, module = waiting.pop()
        seen += 1
        if seen > MAX_MODULES or prefix.count(".") > MAX_DEPTH:
            raise RefusedError("more modules than a UNet has")
        if not isinstance(module, StandIn):
            raise InputError(f"its module {prefix.rstrip('.')} is a {type(module).__name__}")
        transient = module.state.get("_non_persistent_buffers_set") or ()
        buffers = {name: value for name, value in _part(module, "_buffers").items() if name not in transient}
        for name, value in {**_part(module, "_parameters"), **buffers}.items():
            if not isinstance(value, _Tensor):
                raise InputError(f"its {prefix}{name} is a {type(value).__name__}, not a tensor")
            yield prefix + name, value
        waiting += [(f"{prefix}{name}.", child) for name, child in _part(module, "_modules").items()]


def _part(module: StandIn, name: str) -> dict[str, Any]:
    """One of a module's dictionaries, without entries that are None."""
    part = module.state.get(name)
    if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
        raise InputError(f"its {module.name} has no {name}")
    return {key: value for key, value in part.items() if value is not None}


def _config(root: StandIn) -> dict[str, Any]:
    found = root.state.get("_internal_dict")
    if not isinstance(found, dict):
        raise InputError(f"its {UNET} has no configuration")
    return {
        name: value
        for name, value in found.items()
        if isinstance(name, str) and not name.startswith("_") and _is_plain(value, 4)
    }


def _is_plain(value: Any, depth: int) -> bool:
    """Whether JSON can hold a value, to a bounded depth."""
    if isinstance(value, list | tuple):
        return depth > 0 and all(_is_plain(part, depth - 1) for part in value)
    if isinstance(value, Mapping):
        return depth > 0 and all(isinstance(k, str) and _is_plain(part, depth - 1) for k, part in value.items())
    return value is None or isinstance(value, str | int | float)


def limit_resources(size: int) -> None:
    """Limit this process's memory and processor time by the size of the file."""
    memory = _MEMORY + 3 * size
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    seconds = _SECONDS + size // _BYTES_A_SECOND
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: Sequence[str]) -> int:
    """Read FILE under limits, and write OUTPUT for `load_tensors`, with the configuration as a counter."""
    file, output = map(Path, arguments)
    try:
        limit_resources(file.stat().st_size)
        unet = read_unet(file)
        # Not `save_tensors`, which copies: memory is limited, and this file is only the parent's.
        save_file(unet.tensors, output, metadata={"counters": json.dumps({"config": unet.config})})
    except SidlsgError as error:
        print(error, file=sys.stderr)  # noqa: T201 - read by the parent process
        return error.exit_code
    except MemoryError:
        print(f"{file} needs more memory than a file of its size should", file=sys.stderr)  # noqa: T201
        return InputError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
