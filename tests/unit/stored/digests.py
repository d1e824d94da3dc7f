"""The digests by which stored work, records and checkpoints are found again, of fixed inputs.

Each name in digests.json says which one it is, `KIND/OF WHAT`. One that changes makes a new run of what users have: a
training that starts anew, a version that is registered twice, scores that do not compare. They depend on no machine.

- `cache/…`: what a pipeline's cache knows all results by, of a package of version 0
- `recipe/…`: `Recipe.digest` of the recipe's values
- `run/…`: the key of a training's identity, and the name of its checkpoints
- `gate/…`: `GateRules.digest`, as on versions, of a recipe's rules and of one file with every kind of rule
- `protocol/…`: reference digests of the bundled protocols, and what the published ones are; of 96 images, too few for
  KID, whose digests are those of FID
- `measure/…`: what a measured block of images says of the network that read it
- `curation/…`: the rules' digest, the plan's key, and what the record of a curated set names
- `encode/…`: the work folder of unfinished text embeddings, and the text model's digest
- `evaluate/…`: the identity of a measured block, and of the generator that made it
- `job/…`: what a TrainJob's order decides, its digest and its name
- `teacher/…`: what `sidlsg digest` prints

After a wanted change, `python tests/unit/stored/digests.py` writes digests.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from typer.testing import CliRunner

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.protocols import load_domain_protocols
from sidlsg.cli.app import app
from sidlsg.distil.recipes import RECIPES, recipe_with_changes
from sidlsg.distil.run_identity import run_identity, run_name
from sidlsg.evaluate.networks import NetworkMeasure
from sidlsg.evaluate.published import PROTOCOLS
from sidlsg.evaluate.scoring import SamplingPass, measured
from sidlsg.evaluate.suite import ImageSet, prompts_digest
from sidlsg.kubeflow.nodes.job_spec import JobSpec
from sidlsg.prompts.held_out import read_held_out
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.rules import CurationRules, ScoreRule
from sidlsg.prompts.shards import read_prompts
from sidlsg.prompts.source.files import InputFile
from sidlsg.prompts.source.parquet import Piece
from sidlsg.registry.gate_rule_file import parse_gate_rules
from sidlsg.runtime.distributed import World
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate
from sidlsg.stages.encode import encode
from sidlsg.stages.resolve import results_version
from sidlsg.storage.records import FileRef
from sidlsg.storage.tensors import load_tensors
from sidlsg.storage.uri import open_store, uri_digest
from sidlsg.teacher.folder import text_encoder_digest
from sidlsg.teacher.format import DIFFUSERS
from sidlsg.teacher.images import Images
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting

FILE = Path(__file__).with_name("digests.json")
COMMAND = "python tests/unit/stored/digests.py"
ASSETS = Path(__file__).parents[3] / "assets"
OLD = Path(__file__).with_name("at_5dc9d93")
TEACHER, PROMPTS, OTHER = "a" * 64, "b" * 64, "c" * 64
ALL_RULES = """
[[floor]]
score = "attributes"
limit = 0.95

[[ratio]]
score = "fid_judge"
against_subject = "teacher 1 step"
factor = 0.25

[[no_regression]]
score = "fid_judge"
tolerance = 1.5

[[not_worse]]
score = "fid"

[[better]]
score = "clip"

[[required]]
protocol = "hpsv2/v2.1"

[[cost]]
maximum = 500.0
hourly_price = 2.5

[[approval]]
people = ["ann", "bob"]
"""


def digests() -> dict[str, str]:
    """Today's, by name."""
    parts = (cached, recipes, gates, protocols, curation, encoding, evaluation, jobs, teachers)
    return {name: value for part in parts for name, value in part().items()}


def cached() -> dict[str, str]:
    with patch("sidlsg.stages.resolve.__version__", "0"):
        return {"cache/results": results_version()}


def recipes() -> dict[str, str]:
    found = {f"recipe/{name}": recipe.digest for name, recipe in RECIPES.items()}
    for name, recipe in RECIPES.items():
        found[f"run/{name}"] = run_identity(recipe, TEACHER, PROMPTS, 0).key
    tiny = RECIPES["tiny"]
    found["run/tiny, seed 1, from a student"] = run_identity(tiny, TEACHER, PROMPTS, 1, OTHER).key
    found["run/tiny, checkpoints"] = run_name(tiny, run_identity(tiny, TEACHER, PROMPTS, 0))
    short = recipe_with_changes("tiny", '{"iterations": 4, "micro_batch": 2, "scales": {"kappa": 2}}')
    found["recipe/tiny, changed"] = short.digest
    found["run/tiny, changed"] = run_identity(short, TEACHER, PROMPTS, 0).key
    return found


def gates() -> dict[str, str]:
    found = {"gate/a file with every rule": parse_gate_rules(ALL_RULES).digest}
    for name in RECIPES:
        printed = CliRunner().invoke(app, ["gate-rules", "--recipe", name])
        found[f"gate/{name}"] = "none" if printed.exit_code else parse_gate_rules(printed.stdout).digest
    return found


def protocols() -> dict[str, str]:
    held_out = read_held_out(ASSETS / "prompts" / "held_out.txt")
    bundled = load_domain_protocols(SHAPES, held_out, ASSETS / "judge" / "judge.safetensors", len(held_out))
    found = {f"protocol/{name}": digest for name, digest in bundled.digests.items()}
    for drawn in bundled.sets:
        found[f"protocol/set {drawn.name}"] = drawn.sha256
        found |= {f"measure/{each.name}": each.identity for each in bundled.measures(drawn)}
    for name, protocol in PROTOCOLS.items():
        values = {key: value for key, value in asdict(protocol).items() if key != "about"}
        found[f"protocol/{name}"] = json.dumps([values, protocol.space, protocol.files], sort_keys=True)
        measure = NetworkMeasure(protocol, lambda *_: torch.zeros(0), OTHER, 1)
        found[f"measure/{name}"] = f"{measure.name}: {measure.identity}"
    return found


def curation() -> dict[str, str]:
    rules = CurationRules()
    plan = Plan(
        files=(
            InputFile(place="/data/a.parquet", name="a.parquet", label="a", format="parquet", size=100, version="1"),
        ),
        pieces=(Piece(file=0, start=0, stop=1, rows=10, first_row=0),),
        bad_files=(),
        passed_over=(),
        skip_bad_files=False,
        rules=rules,
        unsafe_words=("a", "b"),
        held_out=("a small red circle",),
        buckets=4,
        rows_per_shard=65536,
    )
    cut = replace(plan, rules=replace(rules, score=ScoreRule(minimum=5, cuts=(6, 6.5))))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "prompts"
        made = curate(OLD / "captions.parquet", output, rules, ("a large red ring",))
        # The shards' bytes are their library's, and change with it.
        texts = prompts_digest(read_prompts(output))
    return {
        "curation/rules": rules.digest,
        "curation/other rules": cut.rules.digest,
        "curation/plan": plan.key(),
        "curation/plan of other rules": cut.key(),
        "curation/set's sources": made.source_sha256,
        "curation/set's rules": made.rules_sha256,
        "curation/set's held-out prompts": made.held_out_sha256,
        "curation/set's prompts": texts,
    }


def encoding() -> dict[str, str]:
    teacher = ASSETS / "tiny-sd"
    found = {"encode/text model": text_encoder_digest(teacher)}
    for dtype in ("float16", "float32"):
        with tempfile.TemporaryDirectory() as folder:
            prompts, output = Path(folder) / "prompts", Path(folder) / "embeddings"
            prompts.mkdir()
            # The record alone: the first prompt that is looked for ends the call, and its work stays.
            (prompts / "prompt_set.json").write_bytes((OLD / "prompts" / "prompt_set.json").read_bytes())
            try:
                encode(prompts, teacher, output, dtype, 1.0, lambda _: None)
            except InputError:
                (work,) = (path.name for path in Path(folder).iterdir() if path.name.endswith(".work"))
            else:
                raise RuntimeError("prompts without their files were encoded")
            found[f"encode/work in {dtype}"] = work
    return found


class Means:
    """Mean of each channel."""

    name = "means"
    width = 3
    identity = "1"

    def __call__(self, images: Any, prompts: Sequence[str]) -> torch.Tensor:
        del prompts
        return torch.from_numpy(images).float().mean((1, 2))


def evaluation() -> dict[str, str]:
    def draw(prompts: Sequence[str], seeds: Sequence[int]) -> Images:
        return np.zeros((len(prompts), 8, 8, 3), np.uint8) + len(seeds)

    found = {"evaluate/generator": StockSampler(OLD / "teacher", torch.device("cpu")).identity}
    found["evaluate/setting"] = str(Setting(steps=1, guidance_scale=1.5))
    for form in ("png", "jpeg"):
        drawn = ImageSet(name="set", prompts=("a", "b", "c"), format=form)  # type: ignore[arg-type]
        found[f"evaluate/set of {form}"] = drawn.sha256
        with tempfile.TemporaryDirectory() as folder:
            how = SamplingPass(
                draw=draw, identity="a", label="test", parts=open_store(folder), folder="student", world=World()
            )
            measured(drawn, [Means()], how)
            (file,) = Path(folder).rglob("*.safetensors")
            found[f"evaluate/block of {form}"] = load_tensors(file)[1]["identity"]
            found[f"evaluate/block's file of {form}"] = file.relative_to(folder).as_posix()
    return found


def jobs() -> dict[str, str]:
    order = JobSpec(
        recipe="tiny",
        changes='{"iterations": 4}',
        seed=0,
        checkpoints="s3://bucket/checkpoints",
        teacher="bundled:tiny-sd",
        teacher_layout="",
        held_out="bundled:prompts/held_out.txt",
        judge="bundled:judge/judge.safetensors",
        tracking_uri="",
        experiment="tiny",
        prompts_sha256=PROMPTS,
        inputs=(FileRef(path="prompts/prompt_set.json", sha256=OTHER),),
    )
    return {"job/training": order.training, "job/order": order.digest, "job/name": order.job_name("run")}


def teachers() -> dict[str, str]:
    places = {"tiny-sd": ASSETS / "tiny-sd", "judge": ASSETS / "judge" / "judge.safetensors", "old": OLD / "teacher"}
    return {f"teacher/{name}": uri_digest(str(place), DIFFUSERS) for name, place in places.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    FILE.write_text(json.dumps(digests(), indent=1, sort_keys=True) + "\n")
