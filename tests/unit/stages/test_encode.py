"""The stage as a whole: what it writes, when it does not, and that a killed one resumes."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from forked import Program
from sidlsg.runtime.errors import InputError
from sidlsg.stages.encode import encode
from sidlsg.storage.records import EmbeddingSet, PromptSet
from sidlsg.teacher.folder import text_encoder_digest
from sidlsg.teacher.pipeline import load_teacher
from sidlsg.teacher.shards import BLOCK

Encoded = Callable[[str], Path]


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_set_holds_every_prompts_states_in_order(
    encoded: Encoded, prompts: Path, texts: list[str], teacher_folder: Path
) -> None:
    folder = encoded("float32")
    record = EmbeddingSet.load(folder)
    record.verify(folder)
    assert (record.count, record.shape, record.dtype) == (len(texts), (16, 96), "float32")
    assert record.prompts_sha256 == PromptSet.load(prompts).digest
    assert record.text_encoder_sha256 == text_encoder_digest(teacher_folder)
    assert set(tree(folder)) == {"embedding_set.json", "uncond.safetensors"} | {ref.path for ref in record.shards}

    shards = [load_file(folder / ref.path)["states"] for ref in record.shards]
    assert [len(shard) for shard in shards] == [BLOCK, BLOCK, len(texts) - 2 * BLOCK]
    states = torch.cat(shards)
    teacher = load_teacher(teacher_folder)
    for places in (range(3), range(BLOCK - 2, BLOCK + 2), range(len(texts) - 3, len(texts))):
        assert torch.equal(states[list(places)], teacher.encode([texts[i] for i in places]))
    assert record.uncond is not None
    assert torch.equal(load_file(folder / record.uncond.path)["states"], teacher.encode.uncond)


def test_float16_is_the_rounded_float32(encoded: Encoded) -> None:
    for name in ("uncond.safetensors", "shards/00002.safetensors"):
        exact, rounded = (load_file(encoded(dtype) / name)["states"] for dtype in ("float32", "float16"))
        assert rounded.dtype == torch.float16
        assert torch.equal(exact.half(), rounded)
        assert not torch.equal(exact, rounded.float())


KILLED = """
import sys
from pathlib import Path
from sidlsg.stages.encode import encode
prompts, teacher, output = map(Path, sys.argv[1:])
encode(prompts, teacher, output, "float16", 1.0, print)
"""


def test_a_killed_process_is_continued_and_the_result_is_the_same(
    encoded: Encoded, prompts: Path, teacher_folder: Path, texts: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = Program([str(prompts), str(teacher_folder), str(output)], code=KILLED)
    try:
        while not list(tmp_path.glob(".out.*.work/shards/00000.safetensors")):
            assert process.poll() is None
            time.sleep(0.002)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    (work,) = tmp_path.iterdir()
    done = sorted(path.name for path in (work / "shards").glob("*.safetensors"))
    assert len(done) < 3
    kept = (work / "shards" / done[0]).stat()
    # As if it had been killed while it wrote the next one.
    (work / "shards" / f".{len(done):05}.safetensors.k1x9").write_bytes(b"half a shard")

    said: list[str] = []
    record = encode(prompts, teacher_folder, output, "float16", 1.0, said.append)
    assert said[-1] == f"continues after {len(done) * BLOCK:,} of {len(texts):,} prompts"
    assert (output / "shards" / done[0]).stat().st_ino == kept.st_ino
    assert tree(output) == tree(encoded("float16"))
    assert record == EmbeddingSet.load(output)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("budget", [0.0, 0.0127])
def test_a_set_above_the_budget_is_not_written(
    budget: float, prompts: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    record = encode(prompts, teacher_folder, tmp_path / "out", "float16", budget, said.append)
    assert (record.shards, record.uncond) == ((), None)
    # 4,136 × 16 × 96 × 2 bytes.
    assert said == [
        "4,136 text embeddings of 16 × 96 in float16 take 0.0127 GB, "
        f"the budget is {budget:g} GB: prompts are encoded during training"
    ]
    assert list(tree(tmp_path / "out")) == ["embedding_set.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_set_within_the_budget_is_written(prompts: Path, teacher_folder: Path, tmp_path: Path) -> None:
    record = encode(prompts, teacher_folder, tmp_path / "out", "float16", 4136 * 16 * 96 * 2 / 1e9, print)
    assert len(record.shards) == 3


def test_nothing_is_loaded_to_find_that_out(prompts: Path, teacher_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sidlsg.stages.encode import encode; "
        "encode(*map(Path, sys.argv[1:]), 'float16', 0.0, lambda _: None); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(prompts), str(teacher_folder), str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_full_disk_is_reported_before_encoding(prompts: Path, teacher_folder: Path, tmp_path: Path) -> None:
    small = PromptSet.load(prompts)
    (tmp_path / "prompts").mkdir()
    dataclasses.replace(small, count=10**13).save(tmp_path / "prompts")
    with pytest.raises(InputError, match=r"needs 30,720,000 GB more, but its disk has .* GB free; free some"):
        encode(tmp_path / "prompts", teacher_folder, tmp_path / "out", "float16", 1e9, print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dtype", "budget", "message"),
    [
        ("bfloat16", 1.0, r"dtype 'bfloat16' is unknown \(did you mean 'float16'\?\); allowed: float16, float32"),
        ("float16", -1.0, "disk budget -1.0 is not a size"),
        ("float16", float("nan"), "disk budget nan is not a size"),
        ("float16", float("inf"), "disk budget inf is not a size"),
    ],
)
def test_values_that_cannot_be_used_are_refused(
    dtype: str, budget: float, message: str, prompts: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        encode(prompts, teacher_folder, tmp_path / "out", dtype, budget, print)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_used_are_refused(prompts: Path, teacher_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    inside = Path(shutil.copytree(prompts, tmp_path / "own" / "prompts"))
    EmbeddingSet.load(_plain(prompts, teacher_folder, tmp_path / "own2")).save(tmp_path / "own")
    for given, output, message in (
        (prompts, tmp_path / "taken", "holds something else"),
        (inside, tmp_path / "own", "lies inside the output folder"),
        (tmp_path / "none", tmp_path / "new", "no PromptSet record"),
    ):
        with pytest.raises(InputError, match=message):
            encode(given, teacher_folder, output, "float16", 1.0, print)
    with pytest.raises(InputError, match="no such folder"):
        encode(prompts, tmp_path / "none", tmp_path / "new", "float16", 1.0, print)
    assert not (tmp_path / "new").exists()


def _plain(prompts: Path, teacher: Path, output: Path) -> Path:
    encode(prompts, teacher, output, "float16", 0.0, print)
    return output


def test_configurations_that_do_not_fit_the_weights_are_refused(
    prompts: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    teacher = Path(shutil.copytree(teacher_folder, tmp_path / "teacher"))
    config = teacher / "tokenizer" / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"model_max_length": 16', '"model_max_length": 12'))
    encode(prompts, teacher, tmp_path / "out", "float16", 1.0, print)
    assert EmbeddingSet.load(tmp_path / "out").shape == (12, 96)
    encoder = teacher / "text_encoder" / "config.json"
    encoder.write_text(encoder.read_text().replace('"intermediate_size": 384', '"intermediate_size": 192'))
    with pytest.raises(InputError, match="save the whole pipeline"):
        encode(prompts, teacher, tmp_path / "out", "float16", 1.0, print)
