"""What each of several processes does in these tests: trains, saves, goes on, takes gradients, scores, counts messages.

`torchrun … worker.py JOBS OUT`: a JSON list of jobs, and the folder for what the leading process writes of each.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from sidlsg.bundled.shapes.captions import held_out_captions
from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.guidance import lsg
from sidlsg.distil.lora import kept_tensors, trained_parameters
from sidlsg.distil.losses import Method
from sidlsg.distil.networks import whole
from sidlsg.distil.recipes import RECIPES, Settings
from sidlsg.distil.run_identity import RunIdentity
from sidlsg.distil.sampler import UPDATES, DrawPlan
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import accumulate, train_step
from sidlsg.runtime.distributed import World, joined
from sidlsg.stages.distil_scores import evaluation_during_training
from sidlsg.teacher.conditioning import Conditioning, mapped
from sidlsg.teacher.pipeline import load_teacher, network_class

ASSETS = Path(__file__).parents[2] / "assets"
DTYPES = {"float32": torch.float32, "float64": torch.float64}
PROMPTS = 64
IMAGES = 40
"""That an evaluation during training draws."""
HALF_LIFE = 50_000.0


@dataclass(frozen=True)
class Job:
    """One thing to do."""

    name: str
    do: str = "train"
    """A name in `ACTIONS`."""
    dtype: str = "float64"
    precision: str = "fp32"
    parallel: str = "ddp"
    batch: int = 8
    micro_batch: int = 2
    iterations: int = 20
    lr: float = 3e-4
    load: str = ""
    """Checkpoints to continue."""
    save: str = ""
    """Where to save half of the iterations."""
    bad: list[int] = field(default_factory=list)
    """The samples of the global batch whose text states are not finite, in gradients."""
    bundled: bool = False
    """Whether to train the bundled teacher's UNet, and not the smaller `first_unet`."""
    teacher: str = ""
    """Folder of another teacher, whose network is trained."""
    adapter: dict[str, Any] = field(default_factory=dict)
    steps: int = 1
    """The student's, with fresh noise."""


def first_unet(like: UNet2DConditionModel) -> UNet2DConditionModel:
    """A narrower UNet of the same kind with weights by seed: the tests take a fraction of the time."""
    torch.manual_seed(0)
    return UNet2DConditionModel.from_config({**like.config, "block_out_channels": (16, 32)})


class Bench:
    """A start of training, and its parts."""

    def __init__(self, job: Job, world: World) -> None:
        self.job, self.world = job, world
        dtype = DTYPES[job.dtype]
        self.teacher = teacher = load_teacher(Path(job.teacher or ASSETS / "tiny-sd"))
        self.like = (teacher.network if job.bundled or job.teacher else first_unet(teacher.network)).to(dtype)
        words = ("small", "large", "tiny", "huge")
        prompts = [f"a {words[i % 4]} red circle number {i}" for i in range(PROMPTS)]
        with torch.no_grad():
            self.states = mapped(lambda each: each.to(dtype), teacher.encode([*prompts, ""]))
            self.empty = mapped(lambda each: each[-1:], self.states)
        settings = Settings(parallel=job.parallel, precision=job.precision, adapter=job.adapter)
        self.state = TrainingState.start(self.like, job.lr, job.lr, settings=settings, world=world)
        self.frozen = self.state.frozen(self.like if job.adapter else copy.deepcopy(self.like))
        last = teacher.schedule.last
        steps = FewSteps(count=job.steps, t_init=last if teacher.family.flows else 625)
        self.method = Method(
            teacher=self.state.call(self.frozen), schedule=teacher.schedule, guidance=lsg(1.5), steps=steps
        )
        self.plan = DrawPlan(
            seed=0,
            batch=job.batch,
            prompt_count=PROMPTS,
            latent_shape=teacher.latent_shape,
            prompt_dropout=0.1,
            steps=steps,
            sample_time=teacher.schedule.sample_time,
        )
        self.spoilt: set[int] = set()

    def encode(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Conditioning, Conditioning]:
        """Text states by index; of the spoilt ones, not finite."""
        rows = [-1 if empty else i for i, empty in zip(indices, replaced, strict=True)]
        spoilt = [row for row, index in enumerate(indices) if index in self.spoilt]

        def chosen(states: Tensor) -> Tensor:
            cond = states[rows]
            cond[spoilt] = torch.nan
            return cond

        return mapped(chosen, self.states), self.empty

    def step(self, micro_batch: int | None = None) -> list[float]:
        """One iteration; both losses over the whole batch."""
        result = train_step(
            self.state, self.method, self.plan, self.encode, micro_batch or self.job.micro_batch, HALF_LIFE
        )
        losses = self.world.total(torch.stack([result.losses[update].double() for update in UPDATES]))
        return [float(loss) for loss in losses]


def train(bench: Bench) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Train, perhaps from a checkpoint; losses by iteration, and the student."""
    job, losses = bench.job, {}
    if job.load:
        assert _checkpoints(job.load, bench.world).load_latest(bench.state)
    while bench.state.iteration < job.iterations:
        losses[bench.state.iteration] = bench.step()
        if job.save and bench.state.iteration == job.iterations // 2:
            _checkpoints(job.save, bench.world).save(bench.state, wait=True)
    if job.adapter:
        return {"losses": losses}, kept_tensors(bench.state.ema)
    student = bench.state.student_network(network_class(bench.teacher.family), bench.like.config).state_dict()
    return {"losses": losses}, student


def gradients(bench: Bench) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Both updates' gradients after a few iterations, with some samples spoilt."""
    for _ in range(bench.job.iterations):
        bench.step()
    found, left_out = {}, {}
    for update in UPDATES:
        draws = [bench.plan.draw(bench.state.iteration, update, i, i + 1) for i in bench.job.bad]
        bench.spoilt = {draw.prompts[0] for draw in draws}
        network = getattr(bench.state, update)
        pass_ = accumulate(bench.state, bench.method, bench.plan, bench.encode, bench.job.micro_batch, update)
        left_out[update] = pass_.non_finite
        for name, parameter in trained_parameters(network).items():
            found[f"{update}.{name}"] = whole(parameter.grad).detach().clone()
        network.zero_grad(set_to_none=True)
    return {"left_out": left_out}, found


def messages(bench: Bench) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """How often processes talk in an iteration, by kind of message and size of the micro-batch."""
    share = bench.job.batch // bench.world.size
    counts: dict[int, dict[str, int]] = {}
    bench.step()  # what is set up by the first one does not count
    for micro_batch in (share, 1):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            bench.step(micro_batch)
        counts[micro_batch] = {
            event.key: event.count for event in profile.key_averages() if event.key.startswith("c10d::")
        }
    return {"share": share, "counts": counts}, {}


def scores(bench: Bench) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The EMA's scores during training, by both ways to score it; processes share the images under DDP."""
    recipe, judge = replace(RECIPES["tiny"], evaluate_images=IMAGES), ASSETS / "judge" / "judge.safetensors"
    found = {}
    # Prompts of the shapes domain have its judge; others are scored by likeness to the teacher.
    prompts = {"shapes": [caption.text for caption in held_out_captions()], "likeness": ["a cat", "a dog on a hill"]}
    for name, held_out in prompts.items():
        evaluation = evaluation_during_training(
            recipe,
            bench.teacher,
            bench.state.call(bench.frozen),
            bench.method.schedule,
            held_out,
            judge,
            World() if bench.state.settings.parallel == "fsdp" else bench.state.world,
        )
        with bench.state.ema_on_device() as unet:
            found[name] = evaluation(unet)
    return {"scores": found}, {}


def speed(bench: Bench) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Seconds of each iteration after the first, which sets up."""
    seconds = []
    for _ in range(bench.job.iterations + 1):
        began = time.monotonic()
        bench.step()
        seconds.append(time.monotonic() - began)
    return {"seconds": seconds[1:]}, {}


ACTIONS: dict[str, Callable[[Bench], tuple[dict[str, Any], dict[str, Tensor]]]] = {
    "train": train,
    "gradients": gradients,
    "messages": messages,
    "scores": scores,
    "speed": speed,
}


def _checkpoints(place: str, world: World) -> Checkpoints:
    return Checkpoints(uri=place, run=RunIdentity({"of": "this test"}), report=_tell, world=world)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> None:
    """Do the jobs."""
    torch.set_num_threads(1)
    out = Path(sys.argv[2])
    with joined() as world:
        for values in json.loads(sys.argv[1]):
            job = Job(**values)
            numbers, tensors = ACTIONS[job.do](Bench(job, world))
            if world.is_rank0:
                (out / f"{job.name}.json").write_text(json.dumps(numbers))
                save_file(
                    {name: tensor.contiguous() for name, tensor in tensors.items()}, out / f"{job.name}.safetensors"
                )
            world.barrier()


if __name__ == "__main__":
    main()
