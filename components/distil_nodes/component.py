"""The distil_nodes component: like distil, on the nodes of a TrainJob that this step starts and waits for."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from sidlsg.components.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def distil_nodes(
    prompt_set: Input[Dataset],
    embeddings: Input[Dataset],
    teacher: str,
    teacher_layout: str,
    recipe: str,
    changes: dict,
    seed: int,
    held_out: str,
    judge: str,
    results_version: str,
    nodes: int,
    gpus_per_node: int,
    image: str,
    handover: str,
    timeout_minutes: int,
    queue: str,
    namespace: str,
    node_settings: str,
    student: Output[Model],
    setting: dict = {},  # noqa: B006 - only read
) -> NamedTuple("Outputs", [("seconds", float)]):
    """Distil a teacher into a one-step student on several nodes, as a TrainJob of Kubeflow Trainer.

    Args:
        prompt_set: The curated prompts.
        embeddings: Text embeddings of the prompts, or only their record, if prompts are encoded during training.
        teacher: Stable Diffusion pipeline: a folder or a single safetensors file. A path, bundled:NAME or
            s3://BUCKET/KEY.
        teacher_layout: For a single-file teacher: a folder with its pipeline's small files. Empty if the teacher is a
            folder.
        recipe: Name of the recipe.
        changes: Values of the recipe to override. {} for none.
        seed: Seed of all random numbers.
        held_out: Text file of captions for evaluation during training. A path, bundled:NAME or s3://BUCKET/KEY.
        judge: Safetensors file of the judge network. A path, bundled:NAME or s3://BUCKET/KEY.
        results_version: Digest of the versions that affect results; part of the cache key.
        nodes: Number of nodes of the training job.
        gpus_per_node: GPUs per node, with one process each; 0 for one CPU process per node.
        image: Container image of the nodes, by digest. Empty for the image of this step.
        handover: Staging area for the nodes' inputs and the student: s3://BUCKET/PREFIX. Emptied at the end.
        timeout_minutes: Maximum run time of the nodes in minutes, without time in a queue.
        queue: Kueue LocalQueue. Empty for none.
        namespace: Namespace of the TrainJob. Empty for the namespace of this step.
        node_settings: JSON object with the resources and placement of each node. {} for the defaults.
        student: The student: a diffusers folder with its Student record.
        setting: In a sweep, the setting's changes; a failure is recorded and does not end the run. {} otherwise.

    Returns:
        seconds: Duration in seconds, including time in a queue.
    """
    from sidlsg.kubeflow.nodes.step import distil_nodes_step

    record, seconds = distil_nodes_step(
        training={
            "prompts": prompt_set.path,
            "embeddings": embeddings.path,
            "teacher": teacher,
            "teacher_layout": teacher_layout,
            "recipe": recipe,
            "changes": changes,
            "seed": seed,
            "held_out": held_out,
            "judge": judge,
            "output": student.path,
        },
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        image=image,
        handover=handover,
        timeout_minutes=timeout_minutes,
        queue=queue,
        namespace=namespace,
        node_settings=node_settings,
        setting=setting,
    )
    if record is not None:
        student.metadata.update(sha256=record.digest, images_seen=record.images_seen, results_version=results_version)
    return (seconds,)
