"""What each step of a pipeline imports before it works: a library that takes seconds is loaded where it is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.resources import files

import pytest

HEAVY = (
    "boto3",
    "diffusers",
    "kubernetes",
    "matplotlib",
    "mlflow",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "scipy.signal",
    "sqlalchemy",
    "torch",
    "torchmetrics",
    "transformers",
)
TABLES = {"polars", "pyarrow", "scipy"}
MLFLOW = {"mlflow", "pandas", "sqlalchemy", *TABLES}  # which imports the others by itself
TORCH = {"torch"}
DIFFUSERS = {*TORCH, "diffusers", "transformers", "boto3", "scipy"}  # likewise

LACKING = {"safetensors", "torch", "mlflow", "diffusers", "transformers", "matplotlib", "PIL", "kubernetes", "kfp"}
"""Libraries that images/curate does not install."""

# Components that share a process, to import torch and MLflow but once; each answers for what it is the first to load.
CHAINS: tuple[dict[str, set[str]], ...] = (
    {
        "resolve": set(),
        "encode": set(),
        "report": set(),
        "notify": set(),
        "plan": set(),
        "conclude": set(),
        "distil_nodes": set(),
        "curate": TABLES,
        "curate_plan": TABLES,
        "curate_part": TABLES,
        "curate_join": TABLES,
        "curate_finish": TABLES,
        "promote": MLFLOW,
        "gate": MLFLOW,
        "register": MLFLOW,
        "find": MLFLOW,
        "compare": MLFLOW,
    },
    {
        "distil": {*DIFFUSERS, "pyarrow"},
        "evaluate": {*DIFFUSERS, *MLFLOW, "torchmetrics", "matplotlib", "scipy.signal"},
    },
)
PARENT = "import sidlsg.cli.app, sidlsg.cli.catalog; from sidlsg.kubeflow.local.runs import run_local"
CHECKED = """
from pathlib import Path
from sidlsg.kubeflow.local.runs import pipeline_arguments
from sidlsg.stages.run_request import RunRequest
pipeline_arguments(RunRequest(run_dir=Path("run")), Path("run"))
"""


def loaded_by(*codes: str) -> list[set[str]]:
    """The heavy libraries that each piece of code is the first to load, one after the other in one new process."""
    program = f"""
import json, sys
found, before = [], set()
for code in json.loads(sys.argv[1]):
    exec(code, {{}})
    now = {{name for name in {HEAVY!r} if name in sys.modules}}
    found.append(sorted(now - before))
    before = now
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(codes)], capture_output=True, text=True, check=True
    )
    return [set(names) for names in json.loads(done.stdout.splitlines()[-1])]


def imports_of(component: str) -> str:
    """The imports in a component's body."""
    tree = ast.parse((files("sidlsg.components") / component / "component.py").read_text())
    (body,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == component)
    return "\n".join(ast.unparse(node) for node in body.body if isinstance(node, ast.Import | ast.ImportFrom))


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """What each component loads."""
    found: dict[str, set[str]] = {}
    for chain in CHAINS:
        found |= dict(zip(chain, loaded_by(*map(imports_of, chain)), strict=True))
    return found


@pytest.mark.parametrize(
    ("component", "allowed"), [pytest.param(*row, id=row[0]) for chain in CHAINS for row in chain.items()]
)
def test_a_component_loads_what_it_uses(component: str, allowed: set[str], loaded: dict[str, set[str]]) -> None:
    assert loaded[component] <= allowed


def test_every_component_has_a_row() -> None:
    names = {entry.name for entry in files("sidlsg.components").iterdir() if (entry / "component.py").is_file()}
    assert names == {name for chain in CHAINS for name in chain}


def test_a_run_is_asked_for_and_checked_without_torch_and_mlflow() -> None:
    started, checked = loaded_by(PARENT, CHECKED)
    assert started <= {"kubernetes"}  # by kfp
    assert checked <= {"polars", "pyarrow"}


def test_the_steps_of_the_curate_image_load_without_what_it_lacks() -> None:
    """The image installs images/curate/requirements.txt alone; a container test shows the same, later."""
    program = f"""
import sys

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LACKING!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Lacking())
{chr(10).join(imports_of(component) for component in ("resolve", "curate", "curate_plan", "plan", "conclude"))}
"""
    subprocess.run([sys.executable, "-c", program], check=True)
