"""Guidance settings compared: each one's student distilled from the same prompts, registered, scored, on one page."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Metrics, Model

from sidlsg.components.cluster import on_cluster
from sidlsg.components.compare.component import compare
from sidlsg.components.curate.component import curate
from sidlsg.components.encode.component import encode
from sidlsg.components.evaluate.component import evaluate
from sidlsg.components.plan.component import plan
from sidlsg.components.register.component import register
from sidlsg.components.training import train
from sidlsg.places import HELD_OUT, JUDGE, PROMPTS, TEACHER
from sidlsg.run.settings import SETTINGS

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


def make_sweep(at_once: int) -> dsl.base_component.BaseComponent:
    """The pipeline, for so many settings at a time."""

    @dsl.pipeline(name="sweep")
    def sweep(
        settings: list[str] = list(SETTINGS),  # noqa: B006 - read once, when the pipeline is made
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
        model_name: str = "sidlsg-tiny",
        tracking_uri: str = "http://mlflow:5000",
        checkpoints: str = "/tmp/sidlsg-checkpoints",
        embeddings_gb: float = 0.0,
        embeddings_dtype: str = "float32",
        protocols: str = "",
        weights: str = "",
        teacher_settings: str = "",
        keep_images: str = "",
        package_sha256: str = "",
    ) -> Outputs:
        """Distil one student a guidance setting, register and score each, and put all scores on one page.

        Prompts are curated and encoded once. What curate, encode, distil and evaluate found is kept and used again
        while nothing that they depend on changes, so a setting that is added later costs only itself. Scores are
        recorded on the versions; none is judged or promoted.

        Args:
            settings: The settings to compare, each a guidance strategy with its scales, such as
                ["none", "lsg kappa=1.5"].
            recipe: Name of the recipe, whose guidance the settings replace.
            changes: JSON object of the recipe's other values to replace, such as {"iterations": 400}. {} for none.
            seed: Seed of every random draw in training, the same for all settings.
            prompts: Tables of captions, with semicolons between. Paths that the steps can read, s3:// or bundled:NAME.
            prompts_sha256: SHA-256 that they must have. Empty for no check.
            rules: JSON object of curation rules to replace, such as {"score.minimum": 5.5}. {} for the defaults.
            curate_engine: Where curation runs. native for its own pod, ray:auto or ray://HOST:PORT for a Ray cluster.
            curate_workers: How many of curation's tasks run at once in its pod.
            curate_memory_gb: Most gigabytes that they may take together.
            curate_work: Folder or s3:// prefix for what curation leaves unfinished, for a retried step to go on with.
                A Ray cluster must reach it. Empty for one inside the pod.
            held_out: Text file of evaluation captions, one a line, which no prompt may repeat. A path, or bundled:NAME.
            held_out_sha256: SHA-256 that the list must have. Empty for no check.
            teacher: StableDiffusionPipeline: a folder, or one safetensors file. A path, bundled:NAME or
                s3://BUCKET/KEY.
            teacher_sha256: SHA-256 that the teacher's model files must have. Empty for no check.
            teacher_layout: For a teacher in one file: a folder with its pipeline's small files. Empty for a folder.
            judge: Safetensors file of the network that reads generated images. A path, or bundled:NAME.
            judge_sha256: SHA-256 that the judge's file must have. Empty for no check.
            model_name: Name of the registered model, of which every student becomes a version.
            tracking_uri: MLflow: the http(s) address of a server, or sqlite:///FILE that every step can open.
            checkpoints: Folder for checkpoints. One on a mounted volume lets a retried step go on where it stopped.
            embeddings_gb: Most gigabytes that prompts' text states may take. A set that fits is encoded once, before
                training, which then needs no text encoder. 0 to encode during training.
            embeddings_dtype: Type of those states, float32 or float16. The latter takes half the room, and serves only
                recipes whose text_states is float16.
            protocols: Published protocols to score by as well, with commas between. Empty for none.
            weights: Text of the weights.toml that names the files that they need, each with its SHA-256.
            teacher_settings: How the teacher is sampled beside each student, with semicolons between. Empty for the
                default.
            keep_images: Folder or s3:// prefix that receives the evaluations' pictures. Empty to keep none.
            package_sha256: Digest of the versions that decide results. Empty where the image's digest stands for them.

        Returns:
            prompt_set: The curated prompts.
            students: The students, each a diffusers folder.
            scorecards: The scorecard of each.
            versions: The ModelVersion record of each, as JSON.
            html: The scoreboard.
            metrics: The main scores of each setting.
        """
        # A setting that cannot be used ends the run here, before anything that takes long.
        planned = plan(settings=settings, recipe=recipe, changes=changes).set_caching_options(False)
        curated = (
            curate(
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
            )
            .after(planned)
            .set_caching_options(True)
        )
        encoded = encode(
            prompt_set=curated.outputs["prompt_set"],
            teacher=teacher,
            teacher_sha256=teacher_sha256,
            teacher_layout=teacher_layout,
            dtype=embeddings_dtype,
            budget_gb=embeddings_gb,
            package_sha256=package_sha256,
        ).set_caching_options(True)
        with dsl.ParallelFor(items=planned.output, parallelism=at_once) as setting_changes:
            distilled = train(
                prompt_set=curated.outputs["prompt_set"],
                embeddings=encoded.outputs["embeddings"],
                teacher=teacher,
                teacher_sha256=teacher_sha256,
                teacher_layout=teacher_layout,
                recipe=recipe,
                changes=setting_changes,
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
            # It changes the registry: never from a cache.
            registered = register(
                student=distilled.outputs["student"],
                tracking_uri=tracking_uri,
                name=model_name,
                pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
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
        # kfp changes a Collected that it has compiled, so each use is one of its own.
        compared = compare(
            scorecards=dsl.Collected(evaluated.outputs["scorecard"]),
            versions=dsl.Collected(registered.outputs["version"]),
            settings=settings,
            recipe=recipe,
            tracking_uri=tracking_uri,
        ).set_caching_options(False)
        on_cluster(planned, curated, encoded, distilled, registered, evaluated, compared)
        return Outputs(
            prompt_set=curated.outputs["prompt_set"],
            students=dsl.Collected(distilled.outputs["student"]),
            scorecards=dsl.Collected(evaluated.outputs["scorecard"]),
            versions=dsl.Collected(registered.outputs["version"]),
            html=compared.outputs["html"],
            metrics=compared.outputs["metrics"],
        )

    return sweep


sweep = make_sweep(AT_ONCE)
