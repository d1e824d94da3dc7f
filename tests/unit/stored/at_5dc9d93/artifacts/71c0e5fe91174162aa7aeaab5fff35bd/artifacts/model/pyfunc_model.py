"""The registered model's code: prompts in, pictures out, as `sidlsg generate` draws them.

MLflow stores this file beside the student's diffusers folder and runs it when the model is loaded, so it imports
nothing of this package. What a server may decide is its configuration, MLflow's `model_config`:

safety_checker: `required` looks at each picture with the model's safety checker, and loads no model without one;
    `none` looks at none. The model's own is `required` where its teacher had a checker, else `none`.
batch: pictures that the networks see at once. At 1 a picture is exact; at more, faster, and a value of it may differ
    by one from the picture drawn alone, for libraries choose their kernels by shape.
max_images, max_steps, max_prompt_characters: what one request may ask for.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from mlflow.exceptions import MlflowException
from PIL import Image
from torch import Tensor

FORMATS: dict[str, dict[str, Any]] = {"png": {"optimize": True}, "jpeg": {"quality": 95}, "webp": {"quality": 95}}
CHECKERS = ("required", "none")
TEXT_ROWS = 16  # prompts that the text encoder always sees at once: a prompt's state depends on no other prompt


class StudentModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow has no types here
    """Draws pictures in float32, by default with one network evaluation each."""

    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Read the diffusers folder, from disk alone; a GPU is used where there is one.

        Raises:
            MlflowException: the configuration is not allowed, or requires a safety checker that the model lacks.
        """
        self.limits = {name: _whole(context.model_config, name) for name in ("max_images", "max_steps")}
        self.longest = _whole(context.model_config, "max_prompt_characters")
        self.batch = _whole(context.model_config, "batch")
        checker = context.model_config["safety_checker"]
        if checker not in CHECKERS:
            raise _refusal(f"safety_checker {checker!r} configured; allowed: {' or '.join(CHECKERS)}")
        left_out = {"safety_checker": None, "requires_safety_checker": False} if checker == "none" else {}
        folder = Path(context.artifacts["student"])
        self.t_init = json.loads((folder / "student.json").read_text())["t_init"]
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, **left_out
        )
        if checker == "required" and (pipeline.safety_checker is None or pipeline.feature_extractor is None):
            raise _refusal(
                "safety_checker 'required' configured, and this model has none; "
                "configure 'none' and check its pictures elsewhere, or serve another model"
            )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipeline = pipeline.to(self.device)
        self.pipeline.unet.to(memory_format=torch.channels_last)
        self.alphas_cumprod = torch.as_tensor(pipeline.scheduler.alphas_cumprod, dtype=torch.float64, device="cpu")

    # No type hints: MLflow would take them for the signature and drop the params.
    @torch.no_grad()
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Draw `count` pictures for each prompt.

        Picture i of any prompt has the noise of seed + i: it depends on the prompt, the seed, i and the steps, never
        on the other prompts of the request or on their order (but for the rounding of a configured `batch`).

        Args:
            context: unused; the pipeline was loaded with the model.
            model_input: prompts as a list, an array, or the only column of a data frame.
            params: `seed` (default 0), `count` (1), `steps` (1), `format` (`png`; or `jpeg`, `webp`).

        Returns:
            One list a prompt, of `count` base64 strings of files; None for a picture that the safety checker flagged.

        Raises:
            MlflowException: what was asked for is not allowed; a scoring server answers 400.
        """
        params = {"seed": 0, "count": 1, "steps": 1, "format": "png"} | (params or {})
        seed, count, steps = (int(params[name]) for name in ("seed", "count", "steps"))
        prompts = self._prompts(model_input)
        most = min(self.limits["max_steps"], self.t_init)
        if not 0 <= seed <= 2**53 - 1:
            raise _refusal(f"seed {seed} given; allowed: 0 to 2^53 - 1")
        if not 1 <= steps <= most:
            raise _refusal(f"steps {steps} given; allowed: 1 to {most}, and 1 is what the model is made for")
        if count < 1 or count * len(prompts) > self.limits["max_images"]:
            raise _refusal(
                f"{len(prompts)} prompts and count {count} given; count is at least 1, and prompts × count at most "
                f"{self.limits['max_images']} (max_images): ask for the rest in another request"
            )
        if params["format"] not in FORMATS:
            raise _refusal(f"format {params['format']!r} given; allowed: {', '.join(FORMATS)}")
        states = self._states(prompts)
        asked = [(row, seed + i) for row in range(len(prompts)) for i in range(count)]
        answer: list[list[str | None]] = [[] for _ in prompts]
        for start in range(0, len(asked), self.batch):
            part = asked[start : start + self.batch]
            pictures = self._draw(states[[row for row, _ in part]], [seed for _, seed in part], steps)
            for (row, _), picture in zip(part, pictures, strict=True):
                answer[row].append(None if picture is None else _encoded(picture, params["format"]))
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

    def _states(self, prompts: list[str]) -> Tensor:
        """[N, L, D]: the text states."""
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

    def _draw(self, states: Tensor, seeds: list[int], steps: int) -> list[Any]:
        """A picture a seed, [H, W, 3] uint8; None where the safety checker flagged it."""
        unet, vae = self.pipeline.unet, self.pipeline.vae
        shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        # On the CPU: the same noise on every device.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        x_g = torch.zeros(len(seeds), *shape, device=self.device)
        for i in range(steps):
            z = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)
            t = self.t_init * (steps - i) // steps
            a_t = self.alphas_cumprod[t].sqrt().float().to(self.device)
            s_t = (1 - self.alphas_cumprod[t]).sqrt().float().to(self.device)
            x = a_t * x_g + s_t * z
            output = unet(x, torch.full((len(seeds),), t, device=self.device), states).sample
            v = self.pipeline.scheduler.config.prediction_type == "v_prediction"
            x_g = a_t * x - s_t * output if v else (x - s_t * output) / a_t
        pixels = (vae.decode(x_g / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        pictures = list((pixels * 255).round().to(torch.uint8).cpu().numpy())
        if self.pipeline.safety_checker is None:
            return pictures
        seen = self.pipeline.feature_extractor([Image.fromarray(each) for each in pictures], return_tensors="pt")
        # The checker blackens what it is given; a black picture could be an answer, so the answer is none instead.
        _, flagged = self.pipeline.safety_checker(
            images=np.stack(pictures), clip_input=seen.pixel_values.to(self.device)
        )
        return [None if bad else picture for picture, bad in zip(pictures, flagged, strict=True)]


def _encoded(picture: Any, kind: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format=kind, **FORMATS[kind])
    return base64.b64encode(buffer.getvalue()).decode()


def _whole(config: dict[str, Any], name: str) -> int:
    value = config[name]
    if type(value) is not int or value < 1:
        raise _refusal(f"{name} {value!r} configured; it is a whole number of at least 1")
    return value


def _refusal(message: str) -> MlflowException:
    # A scoring server answers this with 400, "bad request", and not with 500.
    refusal: MlflowException = MlflowException.invalid_parameter_value(message)
    return refusal


mlflow.models.set_model(StudentModel())
