"""Model cards of students."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sidlsg.distil.adapter import LORA_FILE, Adapter
from sidlsg.distil.few_steps import ONE_STEP, FewSteps
from sidlsg.distil.student.folder import student_scheduler
from sidlsg.runtime.formatting import plain_markdown
from sidlsg.storage.real_image_set import RealImageSet
from sidlsg.storage.records import Licence, Student
from sidlsg.teacher.config import read_configs
from sidlsg.teacher.families.family import FLOW_TIMES
from sidlsg.teacher.pipeline import Teacher
from sidlsg.teacher.schedule import NoiseSchedule

UNKNOWN = "unknown"
"""The value of texts that a record must have and that are not known."""
_USAGE = """\
```python
{imports}from diffusers import {pipeline}

pipe = {pipeline}.from_pretrained("path/to/this/folder")
{noise}image = pipe({call}).images[0]
```

{exact} Guidance is part of the
weights; do not guide again at inference."""
_ONE_STEP = "One step only: with this scheduler the stock pipeline is exact for `num_inference_steps=1`."
_EXACT = {
    "fresh": "At these timesteps the folder's `LCMScheduler` is the student's own sampler. It passes the first noise\n"
    "unscaled, hence `latents`; without them images are similar, but not those of this student.",
    "ddim": "At these timesteps the folder's `EulerDiscreteScheduler` is the student's own sampler.\n"
    "`num_inference_steps={count}` instead of them rounds some to the next one: off by 0.1 % of the latents' scale.",
    "fixed": "No stock scheduler repeats the first noise, as this student was trained; the folder's is the nearest.\n"
    "`sidlsg generate` and the served model are exact.",
}
"""What the call gives, by the noise of the later steps; measured on the bundled teacher."""
_EXACT_FLOW = {
    **_EXACT,
    "fresh": "At these σ the folder's `FlowMatchEulerDiscreteScheduler` is the student's own sampler. It draws\n"
    "from torch's own generator, hence `torch.manual_seed`.",
    "ddim": "At these σ the folder's `FlowMatchEulerDiscreteScheduler` is the student's own sampler.",
}
"""The same of a flow's student."""

_LORA = """## As a LoRA file

`{file}` does the same on the teacher, whose digest is above, and can be tried on fine-tunes of it:

```python
{imports}from diffusers import {scheduler}, {pipeline}

folder = "path/to/this/folder"
pipe = {pipeline}.from_pretrained("path/to/the/teacher")
pipe.load_lora_weights(folder, weight_name="{file}")
pipe.scheduler = {scheduler}.from_pretrained(folder, subfolder="scheduler")
{noise}image = pipe({call}).images[0]
```

Its scale is 1: the scale of training, {scale:g}, is part of its weights. This folder's {network} has it fused.

"""


def _stock_call(steps: FewSteps, teacher: Teacher) -> dict[str, str]:
    """The parts of the stock pipeline's call that samples a student."""
    flows = teacher.family.flows
    parts = {
        "imports": "",
        "noise": "",
        "pipeline": teacher.family.pipeline,
        "network": teacher.family.network,
        "scheduler": type(student_scheduler(teacher.scheduler, steps, flows)).__name__,
        "exact": _ONE_STEP,
    }
    given = teacher.family.guided(0) | teacher.family.called(read_configs(teacher.folder))
    also = "".join(f", {name}={value!r}" for name, value in given.items())
    if steps.count == 1:
        return parts | {"call": f'"a prompt", num_inference_steps=1{also}'}
    parts["exact"] = (_EXACT_FLOW if flows else _EXACT)[steps.noise].format(count=steps.count)
    if flows:
        call = f'"a prompt", sigmas={[t / FLOW_TIMES for t in steps.timesteps]}{also}'
        if steps.noise == "fresh":
            parts |= {"imports": "import torch\n", "noise": "torch.manual_seed(0)\n"}
        return parts | {"call": call}
    call = f'"a prompt", timesteps={list(steps.timesteps)}{also}'
    if isinstance(teacher.schedule, NoiseSchedule) and steps.noise == "fresh":
        scale = float((1 - teacher.schedule.alphas_cumprod[steps.t_init]).sqrt())
        shape = ", ".join(map(str, teacher.latent_shape))
        parts |= {
            "imports": "import torch\n",
            "noise": "generator = torch.Generator().manual_seed(0)\n"
            f"latents = {scale:.7g} * torch.randn(1, {shape}, generator=generator)\n",
        }
        call += ", latents=latents, generator=generator"
    return parts | {"call": call}


def student_card(student: Student, teacher: Teacher, real_images: RealImageSet | None = None) -> str:
    """Markdown for the README.md of a distilled student, and the real images that it was trained with, if any."""
    steps = FewSteps.of(student)
    number = "one" if steps.count == 1 else str(steps.count)
    call = _stock_call(steps, teacher)
    kappas = ", ".join(f"κ{i} = {kappa:g}" for i, kappa in enumerate(student.kappas, 1))
    recipe = student.recipe_values
    adapter = Adapter.of(recipe["adapter"]) if recipe.get("adapter") else None
    lora = "" if adapter is None else _LORA.format(file=LORA_FILE, scale=adapter.scale, **call)
    rows = {
        "teacher (SHA-256 of its model files)": f"`{student.teacher_sha256}`",
        "prompt set (SHA-256 of its record)": f"`{student.prompts_sha256}`",
        "code (SHA-256 of the package)": f"`{student.package_sha256}`",
        "git commit": f"`{student.git_commit}`" if student.git_commit else "",
        "image": plain_markdown(student.image),
        "guidance": f"{student.strategy}: {kappas}",
        "images seen": f"{student.images_seen:,} in {student.iterations:,} iterations of {recipe['batch']}",
        "learning rates": f"generator {recipe['lr']:g}, fake score {recipe['fake_score_lr']:g}",
        "learning rate schedule": recipe["lr_schedule"],
        "α, t_init": f"{recipe['alpha']:g}, {student.t_init}",
        "steps, at timesteps, noise": _plan_words(steps) if steps.count > 1 else "",
        "EMA half-life": f"{recipe['ema_half_life']:,.0f} images",
        "adapter": "" if adapter is None else _words(adapter),
        "seed": str(student.seed),
        "real images": "" if real_images is None else plain_markdown(real_images.summary),
        "adversarial term": "" if real_images is None else json.dumps(recipe["adversarial"]),
        "samples masked for NaN": str(student.nan_samples),
        "training time": f"{student.seconds:,.0f} s on {plain_markdown(student.hardware)}",
    }
    return _card(
        student.licence,
        call,
        f"{number.capitalize()}-step student {plain_markdown(student.recipe)}",
        f"A {number}-step text-to-image generator, distilled from a pretrained {teacher.family.title} by Score\n"
        "identity Distillation with Long-Short Guidance (SiD-LSG, arXiv 2406.01561), "
        + ("without any real image." if real_images is None else "and with an adversarial term on real images."),
        "How it was made",
        rows,
        f"{lora}## Scores\n\nNot evaluated yet. The registry holds the scores of registered versions.",
        "The teacher's licence and use restrictions hold for this student as well."
        + ("" if real_images is None else " Check those of the real images too: they are above as they were stated."),
    )


def _words(adapter: Adapter) -> str:
    return (
        f"LoRA of rank {adapter.rank}, alpha {adapter.alpha:g}, on {', '.join(f'`{each}`' for each in adapter.targets)}"
    )


def _plan_words(steps: FewSteps) -> str:
    return f"{steps.count}; {', '.join(map(str, steps.timesteps))}; {steps.noise}"


def released_card(student: Student, teacher: Teacher) -> str:
    """Markdown for the README.md of a student that `convert_released` wrote."""
    values = student.recipe_values
    rows = {
        "checkpoint (SHA-256 of the file)": f"`{values['source_sha256']}`",
        "teacher (SHA-256 of its model files), as given to the conversion": f"`{student.teacher_sha256}`",
        "guidance, as given to the conversion": f"Long-Short Guidance, κ = {student.kappas[0]:g}",
        "images seen": f"{student.images_seen:,}" if student.images_seen else "not known",
        "t_init, as given to the conversion": str(student.t_init),
    }
    return _card(
        student.licence,
        _stock_call(ONE_STEP, teacher),
        "One-step generator, converted from a released checkpoint",
        f"The weights are those of `{values['source']}`, a checkpoint that the authors of SiD-LSG (arXiv 2406.01561)\n"
        "published. They were not trained here, only written in another format.",
        "What is known of it",
        rows,
        f"Not known: {', '.join(values['not_known'])}. Where the record must have a value for them, it has 0 or "
        f"`{UNKNOWN}`.",
        "The licences of the checkpoint and of the teacher, and their use restrictions, hold. This folder does not\n"
        "contain the checkpoint's licence.",
    )


def _card(
    licence: Licence,
    call: Mapping[str, str],
    title: str,
    intro: str,
    heading: str,
    rows: Mapping[str, str],
    rest: str,
    terms: str,
) -> str:
    """A whole card; rows without a value are omitted."""
    lines = [
        "---",
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        f"tags: [{'one' if call['exact'] == _ONE_STEP else 'few'}-step, distillation, sid-lsg]",
        *licence_head(licence),
        "---",
        *(f"# {title}", "", intro, "", _USAGE.format(**call), "", f"## {heading}", "", "| | |", "|---|---|"),
        *(f"| {name} | {value} |" for name, value in rows.items() if value),
        *("", rest, "", "## Use", "", terms, ""),
        *licence_lines(licence),
    ]
    return "\n".join(lines) + "\n"


def licence_head(licence: Licence) -> list[str]:
    """A model card's metadata lines that name a licence; none where it is not known."""
    named = [f"license: {json.dumps(licence.name)}"] if licence.name else []
    return named + ([f"license_link: {json.dumps(licence.link)}"] if licence.link else [])


def licence_lines(licence: Licence) -> list[str]:
    """A model card's lines about the teacher's licence."""
    if licence.name:
        link = f" ({plain_markdown(licence.link)})" if licence.link else ""
        lines = [f"Licence: **{plain_markdown(licence.name)}**{link}, according to the teacher's card."]
    else:
        lines = ["**The teacher's card names no licence**: find out which one holds before you use the student."]
    if licence.files:
        names = ", ".join(plain_markdown(ref.path) for ref in licence.files)
        lines.append(f"The teacher's card, and the texts that came with it: {names}.")
    return lines
