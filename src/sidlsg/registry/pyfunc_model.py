"""The registered model's code: prompts in, PNG images out, by the stock one-step pipeline.

MLflow stores this file beside the student's diffusers folder and runs it when the model is loaded, so it imports
nothing of this package. A student has its teacher's safety checker, and none where the teacher has none, as the
bundled one: whoever serves such a model to the public filters prompts and images themselves.
"""

import base64
import io

import mlflow
import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from mlflow.exceptions import MlflowException


class OneStepGenerator(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow has no types here
    """Draws images with one network evaluation each, in float32."""

    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Read the diffusers folder; a GPU is used where there is one."""
        pipeline = StableDiffusionPipeline.from_pretrained(context.artifacts["student"], use_safetensors=True)
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to("cuda" if torch.cuda.is_available() else "cpu")

    # No type hints: MLflow would take them for the signature and drop the params.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Draw `count` images for each prompt.

        Image i of any prompt starts from a generator of its own, seeded `seed + i`, and is drawn alone: its pixels
        depend on the prompt, the seed and i, never on the other prompts of the request or on their order.

        Args:
            context: unused; the pipeline was loaded with the model.
            model_input: prompts as a list, an array, or the only column of a data frame.
            params: `seed` (default 0) and `count` (default 1).

        Returns:
            One list a prompt, of `count` base64 strings of PNG files.

        Raises:
            MlflowException: prompts are not one column of text, or a parameter is out of range.
        """
        params = params or {}
        seed, count = int(params.get("seed", 0)), int(params.get("count", 1))
        if seed < 0 or count < 1:
            raise _refusal(f"seed {seed} and count {count} given; seed is at least 0 and count at least 1")
        return [[self._draw(prompt, seed + i) for i in range(count)] for prompt in _prompts(model_input)]

    def _draw(self, prompt: str, seed: int) -> str:
        generator = torch.Generator("cpu").manual_seed(seed)  # on the CPU: the same noise on every device
        image = self.pipeline(prompt, num_inference_steps=1, guidance_scale=0, generator=generator).images[0]
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return base64.b64encode(buffer.getvalue()).decode()


def _prompts(model_input) -> list[str]:  # type: ignore[no-untyped-def]
    values = np.asarray(model_input, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim > 1 or not all(isinstance(value, str) for value in values.flat):
        raise _refusal(f"an input of shape {values.shape} given; give prompts: one column of text")
    return [str(value) for value in values.flat]


def _refusal(message: str) -> MlflowException:
    # A scoring server answers this with 400, "bad request", and not with 500.
    refusal: MlflowException = MlflowException.invalid_parameter_value(message)
    return refusal


mlflow.models.set_model(OneStepGenerator())
