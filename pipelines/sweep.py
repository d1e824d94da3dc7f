"""Guidance settings compared: each one's student distilled from the same prompts, registered, scored, on one page."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Metrics, Model

from sidlsg.components.cluster import on_cluster
from sidlsg.components.compare.component import compare
from sidlsg.components.conclude.component import conclude
from sidlsg.components.plan.component import plan
from sidlsg.pipelines import steps
from sidlsg.stages.sweep import SETTINGS
from sidlsg.storage.uri import HELD_OUT, JUDGE, PROMPTS, TEACHER

AT_ONCE = 2
"""How many settings a cluster works on at a time; Kubeflow wants to know when a pipeline is compiled."""


class Outputs(NamedTuple):
    """What a run of the pipeline leaves; the lists have one entry a setting."""

    prompt_set: Dataset
    students: list[Model]
    scorecards: list[Artifact]
    versions: list[str]
    html: HTML
    metrics: Metrics
    failures: str


def make_sweep(at_once: int, concludes: bool = True) -> dsl.base_component.BaseComponent:
    """The pipeline.

    Args:
        at_once: how many settings run at a time.
        concludes: whether the run fails where a setting failed; otherwise the output `failures` alone says so.
    """

    @dsl.pipeline(name="sweep")
    def sweep(
        settings: list[str] = list(SETTINGS),  # noqa: B006 - read once, when the pipeline is made
        recipe: str = "tiny",
        changes: dict = {},  # noqa: B006
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
        tracking_uri: str = "",
        embeddings_gb: float = 0.0,
        embeddings_dtype: str = "float32",
    ) -> Outputs:
        """Distil one student a guidance setting, register and score each, and put all scores on one page.

        Prompts are curated and encoded once. What curate, encode, distil and evaluate found is used again while
        nothing that they depend on changes, so a setting that is added later costs only itself. Scores are recorded on
        the versions; none is judged or promoted. Any place may end in @sha256:DIGEST, which its content must then have.

        Args:
            settings: The settings to compare, each a guidance strategy with its scales, such as
                ["none", "lsg kappa=1.5"].
            recipe: Name of the recipe, whose guidance the settings replace.
            changes: Other values of the recipe to replace, such as {"iterations": 400}.
            seed: Seed of every random draw in training, the same for all settings; or fresh for one of this run.
            prompts: Tables of captions, with semicolons between. Paths that the steps can read, s3:// or bundled:NAME.
            rules: Curation rules to replace, such as {"score.minimum": 5.5}.
            teacher: StableDiffusionPipeline: a folder, or one safetensors file. A path, bundled:NAME or
                s3://BUCKET/KEY.
            teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
            held_out: Text file of evaluation captions, one a line, which no prompt may repeat. A place as the
                teacher's.
            judge: Safetensors file of the network that reads generated images. A place as the teacher's.
            protocols: Published protocols to score by as well, with commas between. Empty for none.
            weights: Text of the weights.toml that names their files, or its place, which ends in .toml. Empty for none.
            teacher_settings: How the teacher is sampled beside each student, with semicolons between. Empty for the
                default.
            keep_images: Folder or s3:// prefix that receives the evaluations' pictures. Empty to keep none.
            model_name: Name of the registered model, of which every student becomes a version.
            tracking_uri: MLflow: an http(s) address, or sqlite:///FILE that every step can open. Empty for the
                cluster's.
            embeddings_gb: Most gigabytes that prompts' text states may take. 0 to encode prompts during training.
            embeddings_dtype: Type of those states. float16 serves recipes whose text_states is float16.

        Returns:
            prompt_set: The curated prompts.
            students: The students, each a diffusers folder.
            scorecards: The scorecard of each.
            versions: The ModelVersion record of each, as JSON.
            html: The scoreboard.
            metrics: The main scores of each setting.
            failures: The settings that failed, as JSON.
        """
        given = {"gate_rules": "", "hourly_price": 0.0, "prices": {}, **locals()}
        # A setting or an input that cannot be used ends the run here, before anything that takes long.
        planned = plan(settings=settings, recipe=recipe, changes=changes).set_caching_options(False)
        resolved = steps.resolve_inputs(given).after(planned)
        curated, encoded = steps.make_prompts(given, resolved)
        with dsl.ParallelFor(items=planned.output, parallelism=at_once) as changed:
            distilled, registered, evaluated = steps.make_student(
                {**given, "changes": changed}, resolved, curated, encoded, setting=changed
            )
        # kfp changes a Collected that it has compiled, so each use is one of its own.
        compared = compare(
            scorecards=dsl.Collected(evaluated.outputs["scorecard"]),
            versions=dsl.Collected(registered.outputs["version"]),
            held_out_captions=resolved.outputs["held_out_captions"],
            judge_model=resolved.outputs["judge_model"],
            settings=settings,
            recipe=recipe,
            tracking_uri=tracking_uri,
        ).set_caching_options(False)
        done = [planned, resolved, curated, encoded, distilled, registered, evaluated, compared]
        if concludes:
            done.append(conclude(failures=compared.outputs["Output"]).set_caching_options(False))
        on_cluster(*done)
        return Outputs(
            prompt_set=curated.outputs["prompt_set"],
            students=dsl.Collected(distilled.outputs["student"]),
            scorecards=dsl.Collected(evaluated.outputs["scorecard"]),
            versions=dsl.Collected(registered.outputs["version"]),
            html=compared.outputs["html"],
            metrics=compared.outputs["metrics"],
            failures=compared.outputs["Output"],
        )

    return sweep


sweep = make_sweep(AT_ONCE)
