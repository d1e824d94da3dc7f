"""Makes what `test_at_5dc9d93.py` reads, with the code of commit 5dc9d93: a program, run once.

    python tests/unit/stored/make_fixtures.py

It needs the environment that tests run in, and takes a few minutes. It checks the commit out in a temporary folder,
runs that code's command line and removes the checkout. What it writes to `at_5dc9d93/`:

- `teacher/`: a `StableDiffusionPipeline` with random weights, as small as a teacher may be
- `captions.parquet` and `prompts/`: a table of captions, and the prompt set that `sidlsg curate` made of it
- `embeddings/`: the text embeddings that `sidlsg encode` wrote
- `checkpoints/000000002/`: the state in the middle of a training of four iterations
- `student/`: what that training ended with; `generated/`: two of its images, from seeds 7 and 8
- `scorecard/`, `version/`, `verdict/`: what `sidlsg evaluate`, `register` and `gate` wrote; the version was promoted
- `store.sql.gz` and `artifacts/`: the MLflow store, as text, in which `FOLDER` stands for the folder of both. The
  student's files inside the logged model are left out, for they are those of `student/`.

The script imports nothing of sidlsg, so that it stays as it is when modules move.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

COMMIT = "5dc9d93"
HERE = Path(__file__).parent
TARGET = HERE / f"at_{COMMIT}"
CAPTIONS = 120
NAME = "old"
TRAINING = {
    "iterations": 4,
    "batch": 4,
    "micro_batch": 4,
    "checkpoint_every": 2,
    "keep_checkpoints": 3,
    "grids": 1,
    "log_every": 1,
    "evaluate_every": 0,
    "on_alarm": "off",
}
"""Changes to the recipe `tiny`; the test gives the same."""
PROMPT = "a small red circle on a blue background"
RULES = """
[[floor]]
score = "attributes"
limit = 0.0

[[ratio]]
score = "fid_judge"
against_subject = "teacher 1 step"
factor = 10.0

[[no_regression]]
score = "fid_judge"
tolerance = 1000.0
"""
"""Rules that a student of a random teacher passes."""


def make_teacher(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """Write a pipeline of 32 × 32 pixels with random weights."""
    torch.manual_seed(0)
    width = 8
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=width,
            projection_dim=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=width,
        attention_head_dim=2,
        norm_num_groups=2,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 4),
        norm_num_groups=2,
        sample_size=32,
        mid_block_add_attention=False,
    )
    # Each latent value becomes a square of one colour: such images are small files.
    for module in vae.decoder.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            centre = torch.zeros(3, 3)
            centre[1, 1] = 1
            module.weight.data.mul_(centre)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# A teacher with random weights\n")


def make_store(scratch: Path, target: Path) -> None:
    """Write MLflow's database as text and its artifacts, without the student's files, which `student/` has."""
    with contextlib.closing(sqlite3.connect(scratch / "mlflow.db")) as database:
        text = "\n".join(database.iterdump()).replace(str(scratch), "FOLDER") + "\n"
    (target / "store.sql.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    shutil.copytree(scratch / "artifacts", target / "artifacts")
    (packed,) = target.glob("artifacts/*/artifacts/model/artifacts/student")
    for path in sorted(packed.rglob("*")):
        if path.is_file() and path.read_bytes() != (target / "student" / path.relative_to(packed)).read_bytes():
            raise SystemExit(f"{path} is not the student's")
    shutil.rmtree(packed.parent)


def make(checkout: Path, scratch: Path, target: Path) -> None:
    """Run the checkout's command line, and keep what it writes."""
    commit = subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True).strip()
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout / "src"),
        "OMP_NUM_THREADS": "1",
        "SIDLSG_GIT_COMMIT": commit,
    }

    def run(*words: str, program: tuple[str, ...] = ("-m", "sidlsg")) -> str:
        done = subprocess.run([sys.executable, *program, *words], cwd=scratch, env=environment, text=True, stdout=-1)
        if done.returncode:
            raise SystemExit(f"{' '.join(words)} ended with exit code {done.returncode}\n{done.stdout}")
        return done.stdout

    for part in ("assets", "components", "pipelines"):
        (checkout / "src" / "sidlsg" / part).symlink_to(checkout / part)
    used = run(program=("-c", "import sidlsg, sidlsg.assets; print(sidlsg.__file__, sidlsg.assets.__file__)")).split()
    if not all(Path(file).is_relative_to(checkout) for file in used):
        raise SystemExit(f"another package's code would run: {used}")

    bundled = checkout / "assets"
    make_teacher(scratch / "teacher", CLIPTokenizer.from_pretrained(bundled / "tiny-sd" / "tokenizer"))
    rows = pq.read_table(bundled / "prompts" / "prompts.parquet", columns=["TEXT", "AESTHETIC_SCORE"]).slice(
        0, CAPTIONS
    )
    pq.write_table(pa.table(rows), scratch / "captions.parquet")
    (scratch / "rules.toml").write_text(RULES)
    changes = [word for name, value in TRAINING.items() for word in ("--set", f"{name}={value}")]
    store = ("--tracking-uri", f"sqlite:///{scratch}/mlflow.db")
    run("curate", "--source", "captions.parquet", "--output", "prompts")
    run("encode", "--prompts", "prompts", "--teacher", "teacher", "--dtype", "float32", "--output", "embeddings")
    trained = ("--prompts", "prompts", "--teacher", "teacher", "--checkpoints", "checkpoints", "--output", "student")
    run("distil", *trained, *changes)
    run("generate", "student", PROMPT, "--count", "2", "--seed", "7", "--output", "generated")
    run("register", "--student", "student", *store, "--name", NAME, "--output", "version")
    scored = ("--student", "student", "--teacher", "teacher", "--teacher-setting", "teacher 1 step")
    run("evaluate", *scored, "--output", "scorecard")
    judged = ("--version", "version", "--scorecard", "scorecard", "--rules", "rules.toml")
    run("gate", *judged, *store, "--output", "verdict")
    run("promote", "--verdict", "verdict", *store)

    for name in ("teacher", "prompts", "embeddings", "student", "generated", "version", "scorecard", "verdict"):
        shutil.copytree(scratch / name, target / name)
    for name in ("captions.parquet", "rules.toml"):
        shutil.copyfile(scratch / name, target / name)
    middle = f"{TRAINING['checkpoint_every']:09d}"
    shutil.copytree(scratch / "checkpoints" / middle, target / "checkpoints" / middle)
    make_store(scratch, target)


def main() -> None:
    """Make all of it anew."""
    git = ("git", "-C", str(HERE))
    with tempfile.TemporaryDirectory() as folder:
        checkout, scratch, made = (Path(folder, name) for name in ("checkout", "scratch", "made"))
        scratch.mkdir()
        made.mkdir()
        subprocess.run([*git, "worktree", "add", "--detach", str(checkout), COMMIT], check=True)
        try:
            make(checkout, scratch, made)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(checkout)], check=True)
        (made / "training.json").write_text(json.dumps(TRAINING, indent=2) + "\n")
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(made, TARGET)


if __name__ == "__main__":
    main()
