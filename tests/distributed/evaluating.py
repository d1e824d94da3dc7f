"""What each of several processes does in the evaluation's tests.

`torchrun … evaluating.py draw STUDENT OUT` draws its share of a set; `… evaluate STUDENT OUT` goes through the stage.
OUT is a folder for what they find.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sidlsg.bundled.protocols import load_domain_protocols
from sidlsg.bundled.shapes.captions import held_out_captions
from sidlsg.evaluate import scoring as one_pass
from sidlsg.evaluate.scoring import SamplingPass, measured
from sidlsg.evaluate.suite import ImageBatch, ImageSet
from sidlsg.runtime.distributed import joined
from sidlsg.stages import evaluate as stage
from sidlsg.storage.store import FolderStore
from sidlsg.storage.tensors import save_tensors
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting

ASSETS = Path(__file__).parents[2] / "assets"
COUNT, BLOCK = 40, 6
SETTING = Setting(steps=1, guidance_scale=0.0)


class Pixels:
    """The picture itself."""

    name = "pixels"
    width = 32 * 32 * 3
    identity = "as they are"

    def __call__(self, pictures: ImageBatch, prompts: Sequence[str]) -> Tensor:
        del prompts
        return torch.from_numpy(pictures).flatten(1).float()  # type: ignore[arg-type]


def draw(student: Path, out: Path) -> None:
    prompts = tuple(caption.text for caption in held_out_captions()[:COUNT])
    sampler = StockSampler(student)
    with joined() as world:
        how = SamplingPass(
            draw=lambda prompts, seeds: sampler(prompts, seeds, SETTING),
            identity=sampler.identity,
            label="draw",
            # One each, as on machines without a shared disk.
            parts=FolderStore(str(out / f"parts{world.rank}")),
            folder="student",
            world=world,
        )
        found = measured(ImageSet(name="shapes", prompts=prompts), [Pixels()], how)
        save_tensors(out / f"pixels{world.rank}.safetensors", found, {"size": world.size})


def evaluate(student: Path, out: Path) -> None:
    stage.load_domain_protocols = functools.partial(load_domain_protocols, count=COUNT)
    texts = [caption.text for caption in held_out_captions()]
    judge, teacher = ASSETS / "judge" / "judge.safetensors", ASSETS / "tiny-sd"
    # Scores of fewer images than are stored: the teacher is drawn as well.
    stage.evaluate(student, teacher, out / "card", texts, judge, print, settings=["teacher 1 step"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    one_pass.BLOCK = BLOCK
    {"draw": draw, "evaluate": evaluate}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
