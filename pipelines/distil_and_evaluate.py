"""The whole way: prompts, a student, a registered version, its scores, a verdict and perhaps a new champion."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Model

from sidlsg.components.cluster import on_cluster
from sidlsg.components.promote.component import promote
from sidlsg.components.report.component import report
from sidlsg.pipelines import steps
from sidlsg.runtime.costs import STAGES
from sidlsg.storage.uri import HELD_OUT, JUDGE, PROMPTS, TEACHER


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
    changes: dict = {},  # noqa: B006 - read once, when the pipeline is made
    seed: str = "0",
    prompts: str = PROMPTS,
    rules: dict = {},  # noqa: B006
    teacher: str = TEACHER,
    teacher_layout: str = "",
    held_out: str = HELD_OUT,
    judge: str = JUDGE,
    protocols: str = "",
    weights: str = "",
    teacher_settings: str = "",
    keep_images: str = "",
    model_name: str = "sidlsg-tiny",
    gate_rules: str = "",
    tracking_uri: str = "",
    embeddings_gb: float = 0.0,
    embeddings_dtype: str = "float32",
    hourly_price: float = 0.0,
    prices: dict = {},  # noqa: B006
) -> Outputs:
    """Distil a Stable Diffusion into a one-step generator, evaluate it, and promote it if it is good enough.

    What curate, encode, distil and evaluate found is used again while nothing that they depend on changes: the first
    step looks at what every input holds now. Any place may end in @sha256:DIGEST, which its content must then have.

    Args:
        recipe: Name of the recipe, which also holds the gate's rules.
        changes: Values of the recipe to replace, such as {"iterations": 400}.
        seed: Seed of every random draw in training, or fresh for another student of the same data.
        prompts: Tables of captions, with semicolons between. Paths that the steps can read, s3:// or bundled:NAME.
        rules: Curation rules to replace, such as {"score.minimum": 5.5}.
        teacher: StableDiffusionPipeline: a folder, or one safetensors file. A path, bundled:NAME or s3://BUCKET/KEY.
        teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
        held_out: Text file of evaluation captions, one a line, which no prompt may repeat. A place as the teacher's.
        judge: Safetensors file of the network that reads generated images. A place as the teacher's.
        protocols: Published protocols to score by as well, with commas between. Empty for none.
        weights: Text of the weights.toml that names their files, or its place, which ends in .toml. Empty for none.
        teacher_settings: How the teacher is sampled beside the student, with semicolons between. Empty for the default.
        keep_images: Folder or s3:// prefix that receives the evaluation's pictures. Empty to keep none.
        model_name: Name of the registered model.
        gate_rules: Text of a TOML file of the gate's rules, or its place, which ends in .toml. Empty for the recipe's.
        tracking_uri: MLflow: an http(s) address, or sqlite:///FILE that every step can open. Empty for the cluster's.
        embeddings_gb: Most gigabytes that prompts' text states may take. 0 to encode prompts during training.
        embeddings_dtype: Type of those states. float16 serves recipes whose text_states is float16.
        hourly_price: Price an hour of a stage that prices does not name, for the costs in the report. 0 for none.
        prices: Prices an hour by stage, such as {"distil": 12.5}, each of all that the stage takes together.

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
    given = dict(locals())
    resolved = steps.resolve_inputs(given)
    curated, encoded = steps.make_prompts(given, resolved)
    distilled, registered, evaluated = steps.make_student(given, resolved, curated, encoded)
    judged = steps.judge(given, resolved, registered.outputs["version"], evaluated.outputs["scorecard"])
    # What reads or changes the registry is never from a cache.
    promoted = promote(verdict=judged.outputs["verdict"], tracking_uri=tracking_uri).set_caching_options(False)
    timed = dict(zip(STAGES, (curated, encoded, distilled, registered, evaluated, judged, promoted), strict=True))
    written = report(
        account=registered.outputs["account"],
        scorecard=evaluated.outputs["scorecard"],
        version=registered.outputs["version"],
        verdict=judged.outputs["verdict"],
        promotion=promoted.outputs["promotion"],
        **{f"{name}_seconds": step.outputs["seconds"] for name, step in timed.items()},
        hourly_price=hourly_price,
        prices=prices,
        tracking_uri=tracking_uri,
    ).set_caching_options(False)
    on_cluster(resolved, *timed.values(), written)
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
