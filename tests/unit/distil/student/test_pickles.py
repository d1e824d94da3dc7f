"""Real pickled UNets are read as they are; pickles that would do something do not."""

from __future__ import annotations

import io
import json
import os
import pickle
import pickletools
import signal
import struct
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils.collect_env import run as run_command

from forked import run
from sidlsg.distil.student import pickles
from sidlsg.distil.student.pickles import read_unet
from sidlsg.runtime.errors import InputError
from sidlsg.storage.tensors import load_tensors

Write = Callable[..., Path]


def same(read: dict[str, torch.Tensor], module: torch.nn.Module) -> bool:
    expected = module.state_dict()
    return read.keys() == expected.keys() and all(
        read[name].dtype == tensor.dtype and torch.equal(read[name], tensor) for name, tensor in expected.items()
    )


# What is read.


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_a_pickled_unet_is_read_as_it_is(
    released: Write, generator: UNet2DConditionModel, half: bool, protocol: int
) -> None:
    unet = read_unet(released(half=half, protocol=protocol))
    reference = UNet2DConditionModel.from_config(generator.config)
    reference.load_state_dict(generator.state_dict())
    assert same(unet.tensors, reference.half() if half else reference)
    expected = {name: value for name, value in generator.config.items() if not name.startswith("_")}
    assert json.loads(json.dumps(unet.config)) == json.loads(json.dumps(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_of_torch_save_is_read_as_well(
    generator: UNet2DConditionModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    module = UNet2DConditionModel.from_config(generator.config).to(dtype)
    torch.save({"ema": module}, tmp_path / "model.pt")
    assert same(read_unet(tmp_path / "model.pt").tensors, module)


def test_buffers_count_where_a_state_dict_has_them_and_strides_do_not(released: Write) -> None:
    kept: list[UNet2DConditionModel] = []

    def change(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        unet.conv_in.register_buffer("stays", torch.arange(3.0))
        unet.conv_in.register_buffer("goes", torch.arange(3.0), persistent=False)
        unet.conv_out.weight = torch.nn.Parameter(unet.conv_out.weight.to(memory_format=torch.channels_last))
        # Two views of one storage, each of a part of it.
        both = torch.randn(2, *unet.conv_out.bias.shape)
        unet.conv_out.bias = torch.nn.Parameter(both[0])
        unet.conv_out.register_buffer("other", both[1])
        kept.append(unet)
        return unet

    read = read_unet(released(change=change)).tensors
    assert "conv_in.stays" in read
    assert "conv_in.goes" not in read
    assert same(read, kept[0])
    assert all(tensor.is_contiguous() for tensor in read.values())
    assert len({tensor.untyped_storage().data_ptr() for tensor in read.values()}) == len(read)


# What is refused. Each of these is shown to act when Python itself loads it.


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def named_call(module: str, path: str, argument: str) -> bytes:
    """A pickle, by hand, that calls `module.path(argument)` where a path may have dots, and puts it under `ema`."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()

    call = text(module) + text(path) + b"\x93" + text(argument) + b"\x85R"
    return b"\x80\x04}" + text("ema") + call + b"s."


def legacy_file(value: Any) -> bytes:
    """What torch.save wrote before zips: several pickles in a row, the third of them the value."""
    buffer = io.BytesIO()
    torch.save(torch.zeros(1)._typed_storage(), buffer, _use_new_zipfile_serialization=False)
    whole = io.BytesIO(buffer.getvalue())
    heads = []
    for _ in range(3):
        start = whole.tell()
        for _ in pickletools.genops(whole):
            pass
        heads.append(buffer.getvalue()[start : whole.tell()])
    return b"".join(heads) + pickle.dumps(value, protocol=2)


def hostile(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    source = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    system = Call(os.system, command)
    module = torch.nn.Linear(2, 2)
    module.extra = system
    buffer = io.BytesIO()
    torch.save({"ema": system}, buffer)
    return {
        "os.system": pickle.dumps({"ema": system}),
        "os.system, protocol 0": pickle.dumps({"ema": system}, protocol=0),
        "eval": pickle.dumps({"ema": Call(eval, source)}),
        "exec next to the UNet": pickle.dumps({"ema": None, "other": [Call(exec, source)]}),
        "a subprocess": pickle.dumps({"ema": Call(subprocess.check_call, ["touch", str(marker)])}),
        "a key": pickle.dumps({"ema": {Call(os.system, command): 1}}),
        "in a module's state": pickle.dumps({"ema": module}),
        "in an ordered dictionary": pickle.dumps({"ema": OrderedDict(a=system)}),
        "a storage inside": pickle.dumps({"ema": Call(torch.storage._load_from_bytes, legacy_file(system))}),
        "a zip as a storage": pickle.dumps({"ema": Call(torch.storage._load_from_bytes, buffer.getvalue())}),
        "a file of torch.save": buffer.getvalue(),
        "a name with a path": named_call("torch.serialization", "os.system", command),
        "another name with a path": named_call("diffusers.utils.logging", "os.system", command),
        "a library's function": pickle.dumps({"ema": Call(run_command, command)}),
        "a dictionary made of a call": pickle.dumps({"ema": Call(OrderedDict, [("a", system)])}),
    }


NAMES = sorted(hostile(Path("/nowhere")))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_hostile_pickle_runs(name: str, tmp_path: Path) -> None:
    marker, file = tmp_path / "ran", tmp_path / "hostile.pkl"
    file.write_bytes(hostile(marker)[name])
    load = "torch.load(file, weights_only=False)" if name == "a file of torch.save" else "pickle.load(file)"
    program = f"import pickle, torch\nwith open({str(file)!r}, 'rb') as file: {load}"
    run(code=program)
    assert marker.exists(), "this pickle is harmless, so the test would show nothing"
    marker.unlink()
    with pytest.raises(InputError, match=r"is refused: it asks for|is not a checkpoint with a pickled UNet"):
        read_unet(file)
    assert not marker.exists()


def test_a_storage_inside_a_whole_unet_is_read_as_weights_only(released: Write, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Storage(Call):
        pass

    def change(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        tensor = unet.conv_in.bias.data
        storage = Storage(torch.storage._load_from_bytes, legacy_file(Call(os.system, f"touch {marker}")))
        hostile_tensor = Call(torch._utils._rebuild_tensor_v2, storage, 0, (len(tensor),), (1,), False, OrderedDict())
        unet.conv_in._parameters["bias"] = hostile_tensor  # type: ignore[assignment]
        return unet

    with pytest.raises(InputError, match=r"Weights only load failed"):
        read_unet(released(change=change))
    assert not marker.exists()


def test_a_librarys_function_in_a_unet_is_only_a_name(released: Write, generator: Any, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    def change(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        unet.conv_in.extra = Call(run_command, f"touch {marker}")
        return unet

    assert same(read_unet(released(change=change)).tensors, generator)
    assert not marker.exists()


@pytest.mark.parametrize(
    "module_and_name",
    ["builtins.getattr", "builtins.type", "copyreg._reconstructor", "operator.attrgetter", "sidlsg.cli.app.main"],
)
def test_the_message_names_what_was_asked_for(module_and_name: str, tmp_path: Path) -> None:
    module, _, name = module_and_name.rpartition(".")
    (tmp_path / "a.pkl").write_bytes(named_call(module, name, "x"))
    with pytest.raises(
        InputError, match=f"is refused: it asks for the name '{module_and_name}'.*nothing of it was run"
    ):
        read_unet(tmp_path / "a.pkl")


STATES = {
    "attributes": b"}X\x08\x00\x00\x00__init__Ns",
    "slots": b"}}X\x0c\x00\x00\x00__setstate__Ns\x86",
    "nothing": b"N",
}


@pytest.mark.parametrize("state", sorted(STATES))
@pytest.mark.parametrize(
    "name",
    [
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch.storage _load_from_bytes",
        "collections OrderedDict",
        "builtins set",
        "diffusers.models.unets.unet_2d_condition UNet2DConditionModel",
    ],
)
def test_a_pickle_cannot_change_the_reader(
    name: str, state: str, released: Write, generator: UNet2DConditionModel, tmp_path: Path
) -> None:
    module, _, attribute = name.partition(" ")
    classes = [pickles.StandIn, *dict.fromkeys(pickles._TABLE.values())]
    before = [dict(vars(kind)) for kind in classes]
    # The state goes to the class itself, not to an instance of it.
    (tmp_path / "a.pkl").write_bytes(f"c{module}\n{attribute}\n".encode() + STATES[state] + b"b.")
    with pytest.raises(InputError):
        read_unet(tmp_path / "a.pkl")
    assert [dict(vars(kind)) for kind in classes] == before
    assert same(read_unet(released()).tensors, generator)


def tensor_call(storage: Any, offset: Any, size: Any, stride: Any) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())


@pytest.mark.parametrize(
    ("offset", "size", "stride", "message"),
    [
        (0, (10**12,), (0,), "a tensor of 1,000,000,000,000 numbers in a storage of 4"),
        (2, (4,), (1,), "a tensor of 4 numbers in a storage of 4"),
        (0, (2, 2), (4, 1), "a tensor of 4 numbers in a storage of 4"),
        (-1, (4,), (1,), "a tensor of impossible shape"),
        (0, (2, -2), (2, 1), "a tensor of impossible shape"),
        (0, (4,), (1, 1), "a tensor of impossible shape"),
        (0, (4.0,), (1,), "a tensor of impossible shape"),
        (0, 4, 1, "a tensor that is not made of"),
    ],
)
def test_impossible_tensors_are_refused(released: Write, offset: Any, size: Any, stride: Any, message: str) -> None:
    def change(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        storage = torch.zeros(4).untyped_storage()
        typed = torch.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
        unet.conv_in._parameters["bias"] = tensor_call(typed, offset, size, stride)  # type: ignore[assignment]
        return unet

    with pytest.raises(InputError, match=message):
        read_unet(released(change=change))


def test_one_storage_many_times_over_is_refused(released: Write) -> None:
    def change(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        large = torch.zeros(1_000_000)
        for number in range(100):
            unet.register_buffer(f"copy_{number}", large)
        return unet

    with pytest.raises(InputError, match="one storage many times over"):
        read_unet(released(change=change))


def test_modules_in_circles_are_refused(released: Write) -> None:
    def change(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        circle = torch.nn.Sequential()
        circle._modules["again"] = circle
        unet.circle = circle
        return unet

    with pytest.raises(InputError, match="more modules than a UNet has"):
        read_unet(released(change=change))


def test_zips_that_grow_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"ema": None}))
        archive.writestr("archive/data/0", bytes(10_000_000))
    with pytest.raises(InputError, match="compressed or overlapping entries"):
        read_unet(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("word/document.xml", "")
    with pytest.raises(InputError, match=r"not one that torch.save wrote"):
        read_unet(tmp_path / "b.pt")


def test_a_zip_for_another_machine_is_refused(generator: UNet2DConditionModel, tmp_path: Path) -> None:
    torch.save({"ema": generator}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        for entry in source.infolist():
            big = entry.filename.endswith("byteorder")
            target.writestr(entry.filename, b"big" if big else source.read(entry))
    with pytest.raises(InputError, match="not little-endian"):
        read_unet(tmp_path / "b.pt")


def test_large_files_are_refused_unread(released: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"has 0.0 GiB; a UNet of Stable Diffusion has at most 4"):
        read_unet(released())


def test_a_file_that_is_not_a_checkpoint_is_refused(released: Write, tmp_path: Path) -> None:
    whole = released().read_bytes()
    for content, message in (
        (b"", "Ran out of input"),
        (b"text", "is not a checkpoint"),
        (whole[: len(whole) // 2], "is not a checkpoint"),
        (pickle.dumps([1]), "holds no dictionary with an entry 'ema'"),
        (pickle.dumps({"G": 1}), "holds no dictionary with an entry 'ema'"),
        (pickle.dumps({"ema": {"a": torch.ones(1)}}), "its entry 'ema' is a dict, not a UNet2DConditionModel"),
        (pickle.dumps({"ema": torch.nn.Linear(2, 2)}), "is a torch.nn.modules.linear.Linear, not a UNet2D"),
    ):
        (tmp_path / "a.pkl").write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_unet(tmp_path / "a.pkl")


# The separate process.


def child(file: Path, output: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    program = f"import sys, sidlsg.distil.student.pickles as p\n{before}\nsys.exit(p.main(sys.argv[1:]))"
    return run([str(file), str(output)], code=program, timeout=120)


def test_the_process_writes_what_was_read(released: Write, generator: UNet2DConditionModel, tmp_path: Path) -> None:
    done = child(released(), tmp_path / "read.safetensors")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    tensors, counters = load_tensors(tmp_path / "read.safetensors")
    assert same(tensors, generator)
    assert counters["config"]["cross_attention_dim"] == generator.config.cross_attention_dim


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04Nr" + struct.pack("<I", 2**31) + b".",  # a place in the memo, far out
        b"\x80\x04\x8e" + struct.pack("<Q", 2**42) + b".",  # bytes of that length
    ],
    ids=["memo", "bytes"],
)
def test_a_pickle_that_asks_for_much_memory_does_not_get_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    done = child(tmp_path / "a.pkl", tmp_path / "output")
    assert done.returncode == 2
    assert "asks for more memory than a file of its size needs" in done.stderr


def test_a_pickle_that_takes_forever_is_ended(tmp_path: Path) -> None:
    # A tuple of itself twice, sixty times over, as a key: its hash takes 2^60 steps.
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04}" + b")" + b"q\x00h\x00\x86" * 60 + b"Ns.")
    done = child(tmp_path / "a.pkl", tmp_path / "output", before="p._SECONDS = 1")
    assert done.returncode == -signal.SIGXCPU
