"""Converts a released SiD-LSG checkpoint to a student's folder; a child process reads the pickle."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.guidance import lsg
from sidlsg.distil.student.card import UNKNOWN, released_card
from sidlsg.distil.student.folder import copy_records, write_folder
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import code_digest, git_commit, running_image
from sidlsg.storage.files import atomic_folder, atomic_write, refuse_foreign, refuse_inside, sha256_file
from sidlsg.storage.records import Student, file_ref
from sidlsg.storage.tensors import Tensors, load_tensors
from sidlsg.teacher.families.sd import SD
from sidlsg.teacher.licence import copy_licence
from sidlsg.teacher.pipeline import Teacher, load_teacher

RECIPE = "released"
"""The recipe's name in the student's record."""
NOT_KNOWN = ("iterations", "nan_samples", "prompts", "seconds", "seed", "training log")
"""Fields that a checkpoint lacks: 0 for numbers, `unknown` for texts, and an empty log."""
_KIMG = re.compile(r"-(\d{6,})\.pkl$")
"""The released names end in thousands of images."""
_SAME_RESULT = {"upcast_attention"}
"""Settings of the computation, which do not change the network."""
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "LANG")
"""Variables of the reading process: no credentials."""


def convert_released(
    file: Path,
    teacher: Path,
    output: Path,
    kappa: float,
    t_init: int = 625,
    images_seen: int | None = None,
    teacher_sha256: str = "",
) -> Student:
    """Write a student's folder from a released checkpoint, without running any code in the checkpoint.

    Args:
        file: a pickled dictionary whose entry `ema` is a `UNet2DConditionModel`.
        teacher: folder of the teacher that it was distilled from.
        output: becomes the student's diffusers folder.
        kappa: of its Long-Short Guidance, as published; only recorded.
        t_init: the timestep of its one step.
        images_seen: in training; by default the number in the file's name, else 0.
        teacher_sha256: digest of the teacher's model files if the caller knows it; empty to compute it.

    Returns:
        The record, which was saved in `output`.

    Raises:
        InputError: an input or the output folder cannot be used, the pickle is refused, or it is of another teacher.
    """
    refuse_foreign(output, Student.FILE)
    refuse_inside(output, file=file, teacher=teacher)
    guidance = lsg(kappa)
    loaded = load_teacher(teacher, sha256=teacher_sha256)
    if loaded.family is not SD:
        raise InputError(f"{teacher} is a {loaded.family.title}; released checkpoints are of {SD.title} 1 and 2 alone")
    if not 1 <= t_init <= loaded.schedule.last:
        raise InputError(f"t_init is {t_init}; allowed: 1 to {loaded.schedule.last}")
    if images_seen is None:
        named = _KIMG.search(file.name)
        images_seen = 1000 * int(named[1]) if named else 0
    with atomic_folder(output, Student.FILE) as folder:
        tensors, config = _read(file, folder / "read.safetensors")
        unet = _unet(file, tensors, config, loaded)
        dtype = "float16" if {tensor.dtype for tensor in tensors.values()} == {torch.float16} else "float32"
        (folder / "read.safetensors").unlink()
        files = write_folder(loaded, unet, FewSteps(t_init=t_init), dtype, folder)
        log = folder / "training_log.jsonl"
        atomic_write(log, "")
        student = Student(
            recipe=RECIPE,
            recipe_values={
                "name": RECIPE,
                "strategy": "lsg",
                "scales": {"kappa": kappa},
                "t_init": t_init,
                "export_dtype": dtype,
                "source": file.name,
                "source_sha256": sha256_file(file),
                "not_known": list(NOT_KNOWN if images_seen else (*NOT_KNOWN, "images_seen")),
            },
            strategy="lsg",
            kappas=guidance.scales,
            teacher_sha256=loaded.sha256,
            prompts_sha256=UNKNOWN,
            package_sha256=code_digest(),
            seed=0,
            t_init=t_init,
            iterations=0,
            images_seen=images_seen,
            nan_samples=0,
            seconds=0.0,
            hardware=UNKNOWN,
            model=tuple(file_ref(path, folder) for path in files),
            training_log=file_ref(log, folder),
            grids=(),
            licence=copy_licence(loaded.folder, folder),
            lineage=copy_records(None, None, loaded.folder, folder),
            git_commit=git_commit(),
            image=running_image(),
        )
        student.save(folder)
        atomic_write(folder / "README.md", released_card(student, loaded))
    return student


def _read(file: Path, output: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and configuration, read by a child process with limits on memory and time."""
    # -P: modules in the working folder, maybe next to the checkpoint, are not imported.
    paths = str(file.absolute()), str(output.absolute())
    command = [sys.executable, "-P", "-m", "sidlsg.distil.student.pickles", *paths]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    message = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise InputError(f"{file} is refused: reading it took more time or memory than a file of its size needs")
    if done.returncode == InputError.exit_code:
        raise InputError(message)
    if done.returncode:
        raise InputError(f"{file} cannot be read: {message} (exit code {done.returncode} of the reading process)")
    tensors, counters = load_tensors(output)
    return tensors, counters["config"]


def _unet(file: Path, tensors: Tensors, config: dict[str, Any], teacher: Teacher) -> UNet2DConditionModel:
    """The UNet, in float32.

    It is built from the teacher's configuration, which the checkpoint's must equal. So the checkpoint's own
    configuration never decides what is built.

    Raises:
        InputError: the checkpoint is of another architecture.
    """
    advice = "give the teacher that the checkpoint was distilled from"
    for name, parameter in inspect.signature(UNet2DConditionModel.__init__).parameters.items():
        if name == "self" or name in _SAME_RESULT:
            continue
        # A value that an older release of diffusers lacks is today's default.
        ours = json.loads(json.dumps(teacher.network.config.get(name, parameter.default)))
        theirs = config.get(name, json.loads(json.dumps(parameter.default)))
        if ours != theirs:
            raise InputError(f"{file} has {name} = {theirs}, and the teacher {teacher.folder} has {ours}; {advice}")
    unet = UNet2DConditionModel.from_config(teacher.network.config)
    wanted = {name: tensor.shape for name, tensor in unet.state_dict().items()}
    if different := sorted(wanted.keys() ^ tensors.keys()):
        name = different[0]
        has = "lacks" if name in wanted else "has an unexpected"
        raise InputError(f"{file} {has} {name}; {advice}")
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise InputError(
                f"{file} has {name} of shape {tuple(tensors[name].shape)}, and the teacher {tuple(shape)}; {advice}"
            )
    unet.load_state_dict(tensors)
    return unet
