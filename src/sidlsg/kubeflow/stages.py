"""The stages that a profile can name, and the image that each runs in."""

from collections.abc import Mapping

CURATE, TRAIN, EVALUATE = "curate", "train", "evaluate"

IMAGES: Mapping[str, str] = {
    "resolve": CURATE,
    "curate": CURATE,
    "curate-plan": CURATE,
    "curate-part": CURATE,
    "curate-join": CURATE,
    "curate-finish": CURATE,
    "encode": TRAIN,
    "distil": TRAIN,
    "distil-nodes": TRAIN,
    "register": EVALUATE,
    "evaluate": EVALUATE,
    "gate": EVALUATE,
    "promote": EVALUATE,
    "report": EVALUATE,
    "find": EVALUATE,
    "plan": EVALUATE,
    "conclude": EVALUATE,
    "compare": EVALUATE,
    "notify": EVALUATE,
}
"""By stage: the name of a component, with hyphens. The images are those of `images/`."""

STAGE_LABEL = "sidlsg.dev/stage"
RUN_LABEL = "pipeline/runid"
"""The label of Kubeflow Pipelines on each pod of a run."""
PART_LABEL = "app.kubernetes.io/part-of"
PART = "sidlsg"
