"""The full pipeline: curate, encode, distil, register, evaluate, gate, promote and report."""

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
    """Outputs of a run: artifacts, and records as JSON."""

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
    """Distil a Stable Diffusion model into a one-step generator, evaluate it, and promote it if it passes the gate.

    Results of curate, encode, distil and evaluate are cached until one of their inputs changes; the first step computes
    the digests of all inputs. Any URI may end in @sha256:DIGEST; the content must then have that digest.

    Args:
        recipe: Name of the recipe, which also holds the gate's rules.
        changes: Values of the recipe to override, such as {"iterations": 400}.
        seed: Seed of all random numbers in training, or fresh for another student from the same data.
        prompts: Tables of captions, separated by semicolons. Paths that the steps can read, s3:// URIs or bundled:NAME.
        rules: Curation rules to override, such as {"score.minimum": 5.5}.
        teacher: Stable Diffusion pipeline: a folder or a single safetensors file. A path, bundled:NAME or
            s3://BUCKET/KEY. For a variant: URI@variant:fp16.
        teacher_layout: For a single-file teacher: a folder with its pipeline's small files. Empty if the teacher is a
            folder.
        held_out: Text file of evaluation captions, one per line, which no prompt may repeat. A path, bundled:NAME or
            s3://BUCKET/KEY.
        judge: Safetensors file of the judge network. A path, bundled:NAME or s3://BUCKET/KEY.
        protocols: Published protocols to score under as well, separated by commas. Empty for none.
        weights: weights.toml with their files: its text, or a URI that ends in .toml. Empty for none.
        teacher_settings: Teacher settings to score as well, separated by semicolons. Empty for the default.
        keep_images: Folder or s3:// prefix that receives the generated images. Empty to keep none.
        model_name: Name of the registered model.
        gate_rules: TOML file of gate rules: its text, or a URI that ends in .toml. Empty for the recipe's rules.
        tracking_uri: MLflow address: http(s), or sqlite:///FILE that every step can open. Empty for the cluster's.
        embeddings_gb: Disk budget of the text embeddings in gigabytes. 0 to encode prompts during training.
        embeddings_dtype: Data type of those embeddings. float16 is for recipes whose text_states is float16.
        hourly_price: Hourly price of stages that prices does not name, for the report's costs. 0 for none.
        prices: Hourly prices by stage, such as {"distil": 12.5}; each covers all resources of the stage.

    Returns:
        prompt_set: The curated prompts.
        student: The student, a diffusers folder.
        scorecard: All scores and image grids.
        html: The report.
        version: The ModelVersion record, as JSON.
        verdict: The Verdict record, as JSON.
        passed: Whether the version may become the champion.
        promotion: The Promotion record, as JSON.
        costs: Duration and price of each stage, as JSON.
    """
    given = dict(locals())
    resolved = steps.resolve_inputs(given)
    curated, encoded = steps.make_prompts(given, resolved)
    distilled, registered, evaluated = steps.make_student(given, resolved, curated, encoded)
    judged = steps.judge(given, resolved, registered.outputs["version"], evaluated.outputs["scorecard"])
    # Steps that read or change the registry are never cached.
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
