"""A registered version scored again, and judged by its new scores; nothing is trained, and no alias moves."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact

from sidlsg.components.cluster import on_cluster
from sidlsg.components.find.component import find
from sidlsg.pipelines import steps
from sidlsg.storage.uri import HELD_OUT, JUDGE, TEACHER


class Outputs(NamedTuple):
    """What a run of the pipeline leaves: artifacts, and records as JSON."""

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
    """Score a registered student beside its teacher, and judge it by a recipe's rules against the champion.

    What evaluate found is used again while nothing that it depends on changes. Scorecard and verdict are recorded on
    the version; who is champion stays as it is. Any place may end in @sha256:DIGEST, which its content must then have.

    Args:
        model_name: Name of the registered model.
        version: Which of its versions: a number, or an alias such as champion.
        tracking_uri: MLflow: an http(s) address, or sqlite:///FILE that every step can open. Empty for the cluster's.
        recipe: Name of the recipe that holds the gate's rules.
        teacher: The teacher that the student came from: a folder, or one safetensors file. A path, bundled:NAME or
            s3://BUCKET/KEY.
        teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
        held_out: Text file of evaluation captions, one a line. A place as the teacher's.
        judge: Safetensors file of the network that reads generated images. A place as the teacher's.
        protocols: Published protocols to score by as well, with commas between. Empty for none.
        weights: Text of the weights.toml that names their files, or its place, which ends in .toml. Empty for none.
        teacher_settings: How the teacher is sampled beside the student, with semicolons between. Empty for the default.
        keep_images: Folder or s3:// prefix that receives the evaluation's pictures. Empty to keep none.
        gate_rules: Text of a TOML file of the gate's rules, or its place, which ends in .toml. Empty for the recipe's.

    Returns:
        scorecard: All scores and the image grids.
        html: The scores on one page.
        version: The ModelVersion record, as JSON.
        verdict: The Verdict record, as JSON.
        passed: Whether the version may be the champion.
    """
    given = {"prompts": "", "seed": "0", **locals()}
    resolved = steps.resolve_inputs(given)
    # An alias may have moved: never from a cache.
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
