"""Compare settings of a recipe: distil, register and score one student for each, from the same prompts."""

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
"""Settings that a cluster processes in parallel; Kubeflow needs the number when a pipeline is compiled."""


class Outputs(NamedTuple):
    """Outputs of a run; the lists have one entry per setting."""

    prompt_set: Dataset
    students: list[Model]
    scorecards: list[Artifact]
    versions: list[str]
    html: HTML
    metrics: Metrics
    failures: str


def make_sweep(at_once: int, concludes: bool = True) -> dsl.base_component.BaseComponent:
    """Make the pipeline.

    Args:
        at_once: number of settings that run in parallel.
        concludes: whether the run fails if a setting failed; otherwise only the output `failures` reports it.
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
        """Distil one student per setting, register and score each, and show all scores on one page.

        Prompts are curated and encoded once. Results of curate, encode, distil and evaluate are cached until one of
        their inputs changes, so adding a setting later only costs that setting. Scores are recorded on the versions; no
        version is judged or promoted. Any URI may end in @sha256:DIGEST; the content must then have that digest.

        Args:
            settings: The settings to compare, each a guidance strategy with its scales and other values of the recipe,
                such as ["none", "lsg kappa=1.5 steps=4"].
            recipe: Name of the recipe, whose guidance the settings replace.
            changes: Values of the recipe that all settings override, such as {"iterations": 400}.
            seed: Seed of all random numbers in training, the same for all settings; or fresh to derive one from the
                run's id.
            prompts: Tables of captions, separated by semicolons. Paths that the steps can read, s3:// URIs or
                bundled:NAME.
            rules: Curation rules to override, such as {"score.minimum": 5.5}.
            teacher: Stable Diffusion pipeline: a folder or a single safetensors file. A path, bundled:NAME or
                s3://BUCKET/KEY. For a variant: URI@variant:fp16.
            teacher_layout: For a single-file teacher: a folder with its pipeline's small files. Empty if the teacher is
                a folder.
            held_out: Text file of evaluation captions, one per line, which no prompt may repeat. A path, bundled:NAME
                or s3://BUCKET/KEY.
            judge: Safetensors file of the judge network. A path, bundled:NAME or s3://BUCKET/KEY.
            protocols: Published protocols to score under as well, separated by commas. Empty for none.
            weights: weights.toml with their files: its text, or a URI that ends in .toml. Empty for none.
            teacher_settings: Teacher settings to score as well, separated by semicolons. Empty for the default.
            keep_images: Folder or s3:// prefix that receives the generated images. Empty to keep none.
            model_name: Name of the registered model; every student becomes a version of it.
            tracking_uri: MLflow address: http(s), or sqlite:///FILE that every step can open. Empty for the cluster's.
            embeddings_gb: Disk budget of the text embeddings in gigabytes. 0 to encode prompts during training.
            embeddings_dtype: Data type of those embeddings. float16 is for recipes whose text_states is float16.

        Returns:
            prompt_set: The curated prompts.
            students: The students, each a diffusers folder.
            scorecards: The scorecard of each student.
            versions: The ModelVersion record of each student, as JSON.
            html: The scoreboard.
            metrics: The main scores of each setting.
            failures: The failed settings, as JSON.
        """
        given = {"gate_rules": "", "hourly_price": 0.0, "prices": {}, **locals()}
        # An invalid setting or input ends the run here, before the long steps.
        planned = plan(settings=settings, recipe=recipe, changes=changes).set_caching_options(False)
        resolved = steps.resolve_inputs(given).after(planned)
        curated, encoded = steps.make_prompts(given, resolved)
        with dsl.ParallelFor(items=planned.output, parallelism=at_once) as changed:
            distilled, registered, evaluated = steps.make_student(
                {**given, "changes": changed}, resolved, curated, encoded, setting=changed
            )
        # kfp modifies a Collected when it compiles it, so each use needs its own.
        compared = compare(
            scorecards=dsl.Collected(evaluated.outputs["scorecard"]),
            versions=dsl.Collected(registered.outputs["version"]),
            held_out_captions=resolved.outputs["held_out_captions"],
            judge_model=resolved.outputs["judge_model"],
            settings=settings,
            recipe=recipe,
            changes=changes,
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
