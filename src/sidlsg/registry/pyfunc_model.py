"""The registered model's code: prompts in, images out, as `sidlsg generate` generates them.

MLflow stores this file beside the student's diffusers folder and runs it when the model is loaded, so it imports
nothing of this package. MLflow also runs it when the model is saved, so torch and diffusers, which take seconds, are
imported where they are used. A server's configuration is MLflow's `model_config`:

call: arguments that a call of the student's stock pipeline needs besides the prompt; none for Stable Diffusion 1 and 2.
safety_checker: `required` checks each image with the model's safety checker, and loads no model without one; `none`
    checks no image. The default is `required` where the model's teacher had a checker, else `none`.
batch: images per forward pass. At 1 an image is exact; more is faster, and a value may differ by one from the image
    generated alone, because libraries choose their kernels by shape.
max_images, max_steps, max_prompt_characters: limits of one request.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read when torch is loaded: waiting threads must not keep their CPUs from other work for long.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

FORMATS: dict[str, dict[str, Any]] = {"png": {"optimize": True}, "jpeg": {"quality": 95}, "webp": {"quality": 95}}
CHECKERS = ("required", "none")
SMALL = 100_000_000  # bytes of weights, below which several threads do not pay
TEXT_ROWS = 16  # prompts that the text encoder always sees at once, so that no prompt's embedding depends on others


class StudentModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow has no types here
    """Generates images in float32, by default in the student's own number of steps."""

    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Load the diffusers folder, from disk alone, to the GPU if there is one.

        Raises:
            MlflowException: the configuration is not allowed, or requires a safety checker that the model lacks, or a
                file is missing.
        """
        import torch
        from diffusers import DiffusionPipeline

        self.limits = {name: _whole(context.model_config, name) for name in ("max_images", "max_steps")}
        self.longest = _whole(context.model_config, "max_prompt_characters")
        self.batch = _whole(context.model_config, "batch")
        checker = context.model_config["safety_checker"]
        if checker not in CHECKERS:
            raise _refusal(f"safety_checker {checker!r} configured; allowed: {' or '.join(CHECKERS)}")
        folder = Path(context.artifacts["student"])
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(_threads(folder))
        try:
            record, index = (json.loads((folder / name).read_text()) for name in ("student.json", "model_index.json"))
            skips = checker == "none" and "safety_checker" in index
            skipped = {"safety_checker": None, "requires_safety_checker": False} if skips else {}
            pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True, **skipped)
        except OSError as error:
            reason = str(error).partition("\n")[0]
            raise _refusal(
                f"a file of this model cannot be read ({reason}); `sidlsg registry doctor NAME` on its registry says "
                "what is missing"
            ) from error
        self.checker = getattr(pipeline, "safety_checker", None)
        if checker == "required" and (self.checker is None or pipeline.feature_extractor is None):
            raise _refusal(
                "safety_checker 'required' configured, and this model has none; "
                "configure 'none' and check its images elsewhere, or serve another model"
            )
        self.t_init = record["t_init"]
        self.steps = record["recipe_values"].get("steps", 1)
        self.step_noise = record["recipe_values"].get("step_noise", "fresh")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipeline = pipeline.to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.network = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
        self.network.to(memory_format=torch.channels_last)
        self.flows = not hasattr(pipeline.scheduler, "alphas_cumprod")
        if not self.flows:
            self.alphas_cumprod = torch.as_tensor(pipeline.scheduler.alphas_cumprod, dtype=torch.float64, device="cpu")
        # Of other families than Stable Diffusion 1 and 2, the stock pipeline samples.
        self.call = context.model_config.get("call", {})
        self.own = type(pipeline).__name__ == "StableDiffusionPipeline"

    # No type hints: MLflow would take them for the signature and drop the params.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Generate `count` images for each prompt.

        Image i of any prompt has the noise of seed + i: it depends on the prompt, the seed, i and the steps, never
        on the other prompts of the request or their order (except for the rounding of a configured `batch`).

        Args:
            context: unused; the pipeline was loaded with the model.
            model_input: prompts as a list, an array, or the only column of a data frame.
            params: `seed` (default 0), `count` (1), `steps` (the student's), `format` (`png`; or `jpeg`, `webp`).

        Returns:
            For each prompt, `count` base64 strings of files; None for an image that the safety checker flagged.

        Raises:
            MlflowException: the request is not allowed; a scoring server answers 400.
        """
        import torch

        params = {"seed": 0, "count": 1, "steps": self.steps, "format": "png"} | (params or {})
        seed, count, steps = (int(params[name]) for name in ("seed", "count", "steps"))
        prompts = self._prompts(model_input)
        most = min(self.limits["max_steps"], self.t_init)
        if not 0 <= seed <= 2**53 - 1:
            raise _refusal(f"seed {seed} given; allowed: 0 to 2^53 - 1")
        if not 1 <= steps <= most:
            raise _refusal(f"steps {steps} given; allowed: 1 to {most}, and {self.steps} is what the model is made for")
        if steps > self.steps == 1 and not self.own:
            raise _refusal(f"steps {steps} given; this model's pipeline samples it in one step alone")
        if steps != self.steps:
            warnings.warn(f"{steps} steps: this student is made for {self.steps}", stacklevel=2)
        if count < 1 or count * len(prompts) > self.limits["max_images"]:
            raise _refusal(
                f"{len(prompts)} prompts and count {count} given; count is at least 1, and prompts × count at most "
                f"{self.limits['max_images']} (max_images): ask for the rest in another request"
            )
        if params["format"] not in FORMATS:
            raise _refusal(f"format {params['format']!r} given; allowed: {', '.join(FORMATS)}")
        wanted = [(row, seed + i) for row in range(len(prompts)) for i in range(count)]
        answer: list[list[str | None]] = [[] for _ in prompts]
        with torch.no_grad():
            embeddings = self._embeddings(prompts) if self.own else None
            for start in range(0, len(wanted), self.batch):
                part = wanted[start : start + self.batch]
                rows, seeds = [row for row, _ in part], [seed for _, seed in part]
                if embeddings is None:
                    images = self._sample([prompts[row] for row in rows], seeds, steps)
                else:
                    images = self._generate(embeddings[rows], seeds, steps)
                for (row, _), image in zip(part, images, strict=True):
                    answer[row].append(None if image is None else _encoded(image, params["format"]))
        return answer

    def _prompts(self, model_input: Any) -> list[str]:
        values = np.asarray(model_input, dtype=object)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim > 1 or not values.size or not all(isinstance(value, str) for value in values.flat):
            raise _refusal(f"an input of shape {values.shape} given; give prompts: one column of text, without nulls")
        longest = max(len(value) for value in values.flat)
        if longest > self.longest:
            raise _refusal(f"a prompt of {longest:,} characters given; allowed: {self.longest:,} at most")
        return [str(value) for value in values.flat]

    def _embeddings(self, prompts: list[str]) -> Tensor:
        """The text embeddings, [N, L, D]."""
        import torch

        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        padded = prompts + prompts[-1:] * (-len(prompts) % TEXT_ROWS)
        tokens = tokenizer(
            padded, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).to(self.device)
        mask = tokens.attention_mask if getattr(encoder.config, "use_attention_mask", False) else None
        parts = [
            encoder(
                tokens.input_ids[start : start + TEXT_ROWS],
                attention_mask=None if mask is None else mask[start : start + TEXT_ROWS],
            ).last_hidden_state
            for start in range(0, len(padded), TEXT_ROWS)
        ]
        return torch.cat(parts)[: len(prompts)]

    def _generate(self, embeddings: Tensor, seeds: list[int], steps: int) -> list[Any]:
        """An image for each seed, [H, W, 3] uint8; None where the safety checker flagged it."""
        import torch

        unet, vae, generators = self.network, self.pipeline.vae, _generators(seeds)
        z = self._noise(generators)
        x_g, epsilon = torch.zeros_like(z), z
        for i, t in enumerate(self._times(steps)):
            a_t = self.alphas_cumprod[t].sqrt().float().to(self.device)
            s_t = (1 - self.alphas_cumprod[t]).sqrt().float().to(self.device)
            x = a_t * x_g + s_t * epsilon
            output = unet(x, torch.full((len(seeds),), t, device=self.device), embeddings).sample
            v = self.pipeline.scheduler.config.prediction_type == "v_prediction"
            x_g = a_t * x - s_t * output if v else (x - s_t * output) / a_t
            if i < steps - 1:
                # The next step's noise: new, the first step's, or what this step implies.
                epsilon = self._noise(generators) if self.step_noise == "fresh" else z
                epsilon = (x - a_t * x_g) / s_t if self.step_noise == "ddim" else epsilon
        pixels = vae.decode(x_g / vae.config.scaling_factor).sample
        if not torch.isfinite(pixels).all():
            raise MlflowException("the model generates non-finite images; serve another version")
        pixels = (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        images = list((pixels * 255).round().to(torch.uint8).cpu().numpy())
        if self.checker is None:
            return images
        features = self.pipeline.feature_extractor([Image.fromarray(each) for each in images], return_tensors="pt")
        # The checker returns black images, which could also be answers; None is unambiguous.
        _, flagged = self.checker(images=np.stack(images), clip_input=features.pixel_values.to(self.device))
        return [None if bad else image for image, bad in zip(images, flagged, strict=True)]

    def _sample(self, prompts: list[str], seeds: list[int], steps: int) -> list[Any]:
        """An image for each prompt and seed, [H, W, 3] uint8, by the stock pipeline as the student's card calls it."""
        generators, times, scheduler = _generators(seeds), self._times(steps), self.pipeline.scheduler
        step = scheduler.step
        if self.flows:
            called: dict[str, Any] = {"sigmas": [t / 1000 for t in times]}
            # Not every pipeline passes it the generators.
            scheduler.step = functools.partial(step, generator=generators)
        else:
            called = {"timesteps": times}
            if type(scheduler).__name__ == "LCMScheduler":  # the only one that takes the noise unscaled
                called["latents"] = self._noise(generators) * float((1 - self.alphas_cumprod[-1]).sqrt())
        try:
            images = self.pipeline(prompts, generator=generators, output_type="np", **self.call, **called).images
        finally:
            scheduler.step = step
        if not np.isfinite(images).all():
            raise MlflowException("the model generates non-finite images; serve another version")
        return list((images * 255).round().astype(np.uint8))

    def _times(self, steps: int) -> list[int]:
        return [self.t_init * (steps - i) // steps for i in range(steps)]

    def _noise(self, generators: list[Any]) -> Tensor:
        """Standard normal noise, that of each image from its own generator."""
        import torch

        config = self.network.config
        shape = (config.in_channels, config.sample_size, config.sample_size)
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)


def _generators(seeds: list[int]) -> list[Any]:
    import torch

    # On the CPU: the same noise on every device.
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def _encoded(image: Any, kind: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind, **FORMATS[kind])
    return base64.b64encode(buffer.getvalue()).decode()


def _threads(folder: Path) -> int:
    """Threads for an image: as many as the container may use CPUs, or one for a small network."""
    networks = (file for name in ("unet", "transformer") for file in (folder / name).glob("*.safetensors"))
    if sum(file.stat().st_size for file in networks) < SMALL:
        return 1
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cpus, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group, or one without a limit
        return cpus


def _whole(config: dict[str, Any], name: str) -> int:
    value = config[name]
    if type(value) is not int or value < 1:
        raise _refusal(f"{name} {value!r} configured; it is a whole number of at least 1")
    return value


def _refusal(message: str) -> MlflowException:
    # A scoring server answers this with status 400 rather than 500.
    refusal: MlflowException = MlflowException.invalid_parameter_value(message)
    return refusal


mlflow.models.set_model(StudentModel())
