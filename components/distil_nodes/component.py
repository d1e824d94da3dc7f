"""The distil_nodes component: as distil, on the nodes of a TrainJob that this step starts and waits for."""

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
        embeddings: Their text states, or the record that says to make them during training.
        teacher: StableDiffusionPipeline: a folder, or one safetensors file. A path, bundled:NAME or s3://BUCKET/KEY.
        teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
        recipe: Name of the recipe.
        changes: Values of the recipe to replace. {} for none.
        seed: Seed of every random draw.
        held_out: Text file of evaluation captions, for scores along the way. A place like the teacher's.
        judge: Safetensors file of the network that reads generated images. A place like the teacher's.
        results_version: Digest of the versions that decide results, a part of the cache key.
        nodes: How many machines train together.
        gpus_per_node: GPUs of each, a process on every one; 0 for one process without.
        image: Image of the nodes, by digest. Empty for the one that this step runs in.
        handover: Where inputs go to the nodes and the student comes back: s3://BUCKET/PREFIX, emptied at the end.
        timeout_minutes: How long the nodes may run. What a queue takes is not counted.
        queue: Kueue's LocalQueue. Empty for none.
        namespace: Where the TrainJob goes. Empty for the namespace of this step.
        node_settings: JSON object of what each node asks for and where it may run. {} for the defaults.
        student: The student, a diffusers folder with its Student record.
        setting: In a sweep, the setting's changes: a failure is handed on, and does not end the run. {} elsewhere.

    Returns:
        seconds: How long it took, waiting in a queue included.
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
