"""KServe's v1 and v2 (open inference) protocols: requests to prompts and parameters, predictions to answers.

N prompts with `count` images each: v1 answers a list of N lists, as MLflow's own server does; v2 answers tensors of
shape [N, count]. An image is a base64 string of a file. One that the safety checker flagged is null in v1, and in v2
an empty string with `flagged` true.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.validation import first_mistake

Predictions = list[list[str | None]]
Body = TypeVar("Body", "V1Request", "V2Request")

INPUTS = [{"name": "prompt", "datatype": "BYTES", "shape": [-1]}]
OUTPUTS = [
    {"name": "image", "datatype": "BYTES", "shape": [-1, -1]},
    {"name": "flagged", "datatype": "BOOL", "shape": [-1, -1]},
]
"""The tensors of v2's model metadata."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Parameters(_Strict):
    """A request's optional parameters; the model has the defaults."""

    seed: int | None = None
    count: int | None = None
    steps: int | None = None
    format: str | None = None


class Prompt(_Strict):
    """A v1 instance in its long form."""

    prompt: str


class V1Request(_Strict):
    """The body of `/v1/models/NAME:predict`."""

    instances: list[str | Prompt]
    parameters: Parameters = Parameters()

    @property
    def prompts(self) -> list[str]:
        """N prompts."""
        return [each if isinstance(each, str) else each.prompt for each in self.instances]


class Tensor(_Strict):
    """A v2 input."""

    name: Literal["prompt"]
    shape: list[int]
    datatype: Literal["BYTES"]
    data: list[str]
    parameters: dict[str, Any] = {}
    """Allowed by the protocol; none applies to text."""


class Output(BaseModel):
    """A v2 output that the client requests."""

    name: Literal["image", "flagged"]


class V2Request(_Strict):
    """The body of `/v2/models/NAME/infer`."""

    inputs: list[Tensor]
    parameters: Parameters = Parameters()
    id: str = ""
    outputs: list[Output] = []
    """Empty for all."""

    @property
    def prompts(self) -> list[str]:
        """N prompts.

        Raises:
            InputError: there is not exactly one tensor, or its shape is not its data's.
        """
        if len(self.inputs) != 1:
            raise InputError(f"{len(self.inputs)} inputs given; give one, named 'prompt'")
        tensor = self.inputs[0]
        if tensor.shape not in ([len(tensor.data)], [len(tensor.data), 1]):
            raise InputError(f"shape {tensor.shape} given for {len(tensor.data)} prompts; give [{len(tensor.data)}]")
        return tensor.data


def parse(kind: type[Body], body: bytes) -> Body:
    """Parse a request's body; InputError if it is not JSON of this kind."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise InputError(first_mistake(error, "the body")) from error


def v2_answer(request: V2Request, name: str, version: str, predictions: Predictions) -> dict[str, Any]:
    """The answer to a v2 request."""
    shape = [len(predictions), len(predictions[0])]
    flat = [image for images in predictions for image in images]
    tensors = [
        {"name": "image", "datatype": "BYTES", "shape": shape, "data": [image or "" for image in flat]},
        {"name": "flagged", "datatype": "BOOL", "shape": shape, "data": [image is None for image in flat]},
    ]
    wanted = {output.name for output in request.outputs} or {"image", "flagged"}
    outputs = [tensor for tensor in tensors if tensor["name"] in wanted]
    answer = {"model_name": name, "model_version": version, "outputs": outputs}
    return answer | ({"id": request.id} if request.id else {})
