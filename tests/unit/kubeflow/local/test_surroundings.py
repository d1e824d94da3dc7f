"""What kfp does otherwise while a pipeline runs here."""

from __future__ import annotations

import io
from pathlib import Path

from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineTaskSpec

from sidlsg.kubeflow.local.execution import kfp_local
from sidlsg.kubeflow.sdk import task_spec_utils


def test_a_loop_reads_outputs_of_earlier_steps_as_they_are(tmp_path: Path) -> None:
    loop = PipelineTaskSpec()
    loop.parameter_iterator.item_input = "item"
    loop.parameter_iterator.items.input_parameter = "items"
    for name in ("items", "seed"):
        loop.inputs.parameters[name].task_output_parameter.producer_task = name
    with kfp_local(tmp_path / "outputs", tmp_path / "cache", tmp_path, io.StringIO()):
        made = task_spec_utils.create_parameter_loop_iteration_task_spec(loop, {"a": 1}, "for-loop-1")
    assert made.inputs.parameters["item"].runtime_value.constant.struct_value["a"] == 1
    assert made.inputs.parameters["seed"] == loop.inputs.parameters["seed"]
