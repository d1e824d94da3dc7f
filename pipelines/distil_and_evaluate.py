"""The whole way: prompts, a student, a registered version, its scores, a verdict and perhaps a new champion."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Model

from sidlsg.components.cluster import on_cluster
from sidlsg.components.curate.component import curate
from sidlsg.components.encode.component import encode
from sidlsg.components.evaluate.component import evaluate
from sidlsg.components.gate.component import gate
from sidlsg.components.promote.component import promote
from sidlsg.components.register.component import register
from sidlsg.components.report.component import report
from sidlsg.components.training import train
from sidlsg.places import HELD_OUT, JUDGE, PROMPTS, TEACHER


class Outputs(NamedTuple):
    """What a run of the pipeline leaves: artifacts, and records as JSON."""

    prompt_set: Dataset
    student: Model
    scorecard: Artifact
    html: HTML
    version: str
    verdict: str
    passed: bool
    promotion: str
    costs: str


@dsl.pipeline(name="distil-and-evaluate")
def distil_and_evaluate(
    recipe: str = "tiny",
    changes: str = "{}",
    seed: int = 0,
    prompts: str = PROMPTS,
    prompts_sha256: str = "",
    rules: str = "{}",
    curate_engine: str = "native",
    curate_workers: int = 1,
    curate_memory_gb: float = 2.0,
    curate_work: str = "",
    held_out: str = HELD_OUT,
    held_out_sha256: str = "",
    teacher: str = TEACHER,
    teacher_sha256: str = "",
    teacher_layout: str = "",
    judge: str = JUDGE,
    judge_sha256: str = "",
    protocols: str = "",
    weights: str = "",
    teacher_settings: str = "",
    keep_images: str = "",
    model_name: str = "sidlsg-tiny",
    tracking_uri: str = "http://mlflow:5000",
    checkpoints: str = "/tmp/sidlsg-checkpoints",
    embeddings_gb: float = 0.0,
    embeddings_dtype: str = "float32",
    gate_rules: str = "",
    package_sha256: str = "",
    hourly_price: float = 0.0,
    prices: str = "{}",
) -> Outputs:
    """Distil a Stable Diffusion into a one-step generator, evaluate it, and promote it if it is good enough.

    What curate, encode, distil and evaluate found is kept and used again while nothing that they depend on changes. The
    digests are a part of that decision: give them for inputs whose content can change under the same name.

    Args:
        recipe: Name of the recipe, which also holds the gate's rules.
        changes: JSON object of the recipe's values to replace, such as {"iterations": 400}. {} for none.
        seed: Seed of every random draw in training.
        prompts: Tables of captions, with semicolons between. Paths that the steps can read, s3:// or bundled:NAME.
        prompts_sha256: SHA-256 that they must have. Empty for no check.
        rules: JSON object of curation rules to replace, such as {"score.minimum": 5.5}. {} for the defaults.
        curate_engine: Where curation runs. native for its own pod, ray:auto or ray://HOST:PORT for a Ray cluster.
        curate_workers: How many of curation's tasks run at once in its pod.
        curate_memory_gb: Most gigabytes that they may take together.
        curate_work: Folder or s3:// prefix for what curation leaves unfinished, for a retried step to go on with. A Ray
            cluster must reach it. Empty for one inside the pod.
        held_out: Text file of evaluation captions, one a line, which no prompt may repeat. A path, or bundled:NAME.
        held_out_sha256: SHA-256 that the list must have. Empty for no check.
        teacher: StableDiffusionPipeline: a folder, or one safetensors file. A path, bundled:NAME or s3://BUCKET/KEY.
        teacher_sha256: SHA-256 that the teacher's model files must have. Empty for no check.
        teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
        judge: Safetensors file of the network that reads generated images. A path, or bundled:NAME.
        judge_sha256: SHA-256 that the judge's file must have. Empty for no check.
        protocols: Published protocols to score by as well, with commas between. Empty for none.
        weights: Text of the weights.toml that names the files that they need, each with its SHA-256.
        teacher_settings: How the teacher is sampled beside the student, with semicolons between. Empty for the default.
        keep_images: Folder or s3:// prefix that receives the evaluation's pictures. Empty to keep none.
        model_name: Name of the registered model.
        tracking_uri: MLflow: the http(s) address of a server, or sqlite:///FILE that every step can open.
        checkpoints: Folder for checkpoints. One on a mounted volume lets a retried step go on where it stopped.
        embeddings_gb: Most gigabytes that prompts' text states may take. A set that fits is encoded once, before
            training, which then needs no text encoder. 0 to encode during training.
        embeddings_dtype: Type of those states, float32 or float16. The latter takes half the room, and serves only
            recipes whose text_states is float16.
        gate_rules: Text of a TOML file of the gate's rules. Empty for the recipe's.
        package_sha256: Digest of the versions that decide results. Empty where the image's digest stands for them.
        hourly_price: Price an hour of a stage that prices does not name, for the costs in the report and on the
            version. 0 for none.
        prices: JSON object of prices an hour by stage, such as {"distil": 12.5, "curate": 0.4}, each of all that the
            stage takes together. {} for none.

    Returns:
        prompt_set: The curated prompts.
        student: The student, a diffusers folder.
        scorecard: All scores and the image grids.
        html: The report.
        version: The ModelVersion record, as JSON.
        verdict: The Verdict record, as JSON.
        passed: Whether the version may be the champion.
        promotion: The Promotion record, as JSON.
        costs: Seconds and price of each stage, as JSON.
    """
    curated = curate(
        source=prompts,
        source_sha256=prompts_sha256,
        held_out=held_out,
        held_out_sha256=held_out_sha256,
        rules=rules,
        engine=curate_engine,
        workers=curate_workers,
        memory_gb=curate_memory_gb,
        work=curate_work,
        package_sha256=package_sha256,
    ).set_caching_options(True)
    encoded = encode(
        prompt_set=curated.outputs["prompt_set"],
        teacher=teacher,
        teacher_sha256=teacher_sha256,
        teacher_layout=teacher_layout,
        dtype=embeddings_dtype,
        budget_gb=embeddings_gb,
        package_sha256=package_sha256,
    ).set_caching_options(True)
    distilled = train(
        prompt_set=curated.outputs["prompt_set"],
        embeddings=encoded.outputs["embeddings"],
        teacher=teacher,
        teacher_sha256=teacher_sha256,
        teacher_layout=teacher_layout,
        recipe=recipe,
        changes=changes,
        seed=seed,
        checkpoints=checkpoints,
        held_out=held_out,
        held_out_sha256=held_out_sha256,
        judge=judge,
        judge_sha256=judge_sha256,
        tracking_uri=tracking_uri,
        experiment=model_name,
        package_sha256=package_sha256,
    ).set_caching_options(True)
    # These four read or change the registry, or speak of what it holds now: never from a cache.
    registered = register(
        student=distilled.outputs["student"],
        tracking_uri=tracking_uri,
        name=model_name,
        pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        hourly_price=hourly_price,
        prices=prices,
    ).set_caching_options(False)
    evaluated = evaluate(
        version=registered.outputs["version"],
        tracking_uri=tracking_uri,
        teacher=teacher,
        teacher_sha256=teacher_sha256,
        teacher_layout=teacher_layout,
        held_out=held_out,
        held_out_sha256=held_out_sha256,
        judge=judge,
        judge_sha256=judge_sha256,
        protocols=protocols,
        weights=weights,
        teacher_settings=teacher_settings,
        keep_images=keep_images,
        work=checkpoints,
        package_sha256=package_sha256,
    ).set_caching_options(True)
    judged = gate(
        version=registered.outputs["version"],
        scorecard=evaluated.outputs["scorecard"],
        tracking_uri=tracking_uri,
        recipe=recipe,
        gate_rules=gate_rules,
    ).set_caching_options(False)
    promoted = promote(verdict=judged.outputs["verdict"], tracking_uri=tracking_uri).set_caching_options(False)
    written = report(
        prompt_set=curated.outputs["prompt_set"],
        student=distilled.outputs["student"],
        scorecard=evaluated.outputs["scorecard"],
        version=registered.outputs["version"],
        verdict=judged.outputs["verdict"],
        promotion=promoted.outputs["promotion"],
        curate_seconds=curated.outputs["seconds"],
        encode_seconds=encoded.outputs["seconds"],
        distil_seconds=distilled.outputs["seconds"],
        register_seconds=registered.outputs["seconds"],
        evaluate_seconds=evaluated.outputs["seconds"],
        gate_seconds=judged.outputs["seconds"],
        promote_seconds=promoted.outputs["seconds"],
        hourly_price=hourly_price,
        prices=prices,
        tracking_uri=tracking_uri,
    ).set_caching_options(False)
    on_cluster(curated, encoded, distilled, registered, evaluated, judged, promoted, written)
    return Outputs(
        prompt_set=curated.outputs["prompt_set"],
        student=distilled.outputs["student"],
        scorecard=evaluated.outputs["scorecard"],
        html=written.outputs["html"],
        version=registered.outputs["version"],
        verdict=judged.outputs["verdict"],
        passed=judged.outputs["passed"],
        promotion=promoted.outputs["promotion"],
        costs=written.outputs["costs"],
    )
