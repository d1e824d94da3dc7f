"""Score a registered version again and judge it by the new scores; nothing is trained, and no alias moves."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact

from sidlsg.components.cluster import on_cluster
from sidlsg.components.find.component import find
from sidlsg.pipelines import steps
from sidlsg.storage.uri import HELD_OUT, JUDGE, TEACHER


class Outputs(NamedTuple):
    """Outputs of a run: artifacts, and records as JSON."""

    scorecard: Artifact
    html: HTML
    version: str
    verdict: str
    passed: bool


@dsl.pipeline(name="evaluate-only")
def evaluate_only(
    model_name: str = "sidlsg-tiny",
    version: str = "champion",
    tracking_uri: str = "",
    recipe: str = "tiny",
    teacher: str = TEACHER,
    teacher_layout: str = "",
    held_out: str = HELD_OUT,
    judge: str = JUDGE,
    protocols: str = "",
    weights: str = "",
    teacher_settings: str = "",
    keep_images: str = "",
    gate_rules: str = "",
) -> Outputs:
    """Score a registered student and its teacher, and judge it by a recipe's rules and against the champion.

    The result of evaluate is cached until one of its inputs changes. Scorecard and verdict are recorded on the version;
    the champion does not change. Any URI may end in @sha256:DIGEST; the content must then have that digest.

    Args:
        model_name: Name of the registered model.
        version: Version to score: a number, or an alias such as champion.
        tracking_uri: MLflow address: http(s), or sqlite:///FILE that every step can open. Empty for the cluster's.
        recipe: Name of the recipe whose gate rules apply.
        teacher: The student's teacher: a folder or a single safetensors file. A path, bundled:NAME or
            s3://BUCKET/KEY. For a variant: URI@variant:fp16.
        teacher_layout: For a single-file teacher: a folder with its pipeline's small files. Empty if the teacher is a
            folder.
        held_out: Text file of evaluation captions, one per line. A path, bundled:NAME or s3://BUCKET/KEY.
        judge: Safetensors file of the judge network. A path, bundled:NAME or s3://BUCKET/KEY.
        protocols: Published protocols to score under as well, separated by commas. Empty for none.
        weights: weights.toml with their files: its text, or a URI that ends in .toml. Empty for none.
        teacher_settings: Teacher settings to score as well, separated by semicolons. Empty for the default.
        keep_images: Folder or s3:// prefix that receives the generated images. Empty to keep none.
        gate_rules: TOML file of gate rules: its text, or a URI that ends in .toml. Empty for the recipe's rules.

    Returns:
        scorecard: All scores and image grids.
        html: The scores on one page.
        version: The ModelVersion record, as JSON.
        verdict: The Verdict record, as JSON.
        passed: Whether the version may become the champion.
    """
    given = {"prompts": "", "changes": {}, "seed": "0", **locals()}
    resolved = steps.resolve_inputs(given)
    # Never cached: an alias may have moved.
    found = find(tracking_uri=tracking_uri, name=model_name, which=version).set_caching_options(False)
    registered = found.outputs["version"]
    evaluated = steps.score(given, resolved, version=registered, tracking_uri=tracking_uri)
    judged = steps.judge(given, resolved, registered, evaluated.outputs["scorecard"])
    on_cluster(resolved, found, evaluated, judged)
    return Outputs(
        scorecard=evaluated.outputs["scorecard"],
        html=evaluated.outputs["html"],
        version=registered,
        verdict=judged.outputs["verdict"],
        passed=judged.outputs["passed"],
    )
