"""The page from an empty cluster to the first run: its commands run, in its order, but for those that it marks."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.cluster import COMPONENTS, INFRA, OVERLAYS, ROOT, pods, quantity, rendered
from infra.page import TEXT, Block, blocks, yours
from sidlsg.kubeflow.profile import IMAGES

NEEDS_A_CLUSTER = re.compile(
    r"kubectl (-n \w+ )?(apply|rollout|wait|port-forward|scale|logs|delete|create job)|sidlsg submit|docker push"
)


@pytest.fixture(scope="module")
def page_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """What all blocks that are run print, in one shell, in a copy of what they need."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(INFRA, folder / "infra")
    (folder / "temporary").mkdir()
    # A line between two blocks' outputs.
    script = "\n".join(f"echo '== {n}'\n{block.text}" for n, block in enumerate(run_blocks()))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(folder),
        "TMPDIR": str(folder / "temporary"),
        # No cluster of whoever runs the tests.
        "KUBECONFIG": os.devnull,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done, folder


def run_blocks() -> list[Block]:
    return [block for block in blocks() if not block.why_not]


def outputs(done: subprocess.CompletedProcess[str]) -> list[str]:
    return re.split(r"^== \d+\n", done.stdout, flags=re.MULTILINE)[1:]


def test_every_command_that_needs_no_cluster_runs(page_run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = page_run
    assert done.returncode == 0, done.stderr
    assert len(outputs(done)) == len(run_blocks()) >= 6
    assert all(
        outputs(done)[n].strip() for n, block in enumerate(run_blocks()) if "kustomize" in block.text.split(">")[0]
    )


def test_what_needs_a_cluster_says_that_it_is_not_run() -> None:
    marked = [block for block in blocks() if block.why_not]
    assert len(marked) >= 6
    assert [block.text for block in blocks() if not block.why_not and NEEDS_A_CLUSTER.search(block.text)] == []


def test_the_secrets_that_the_page_makes_are_those_that_it_names(
    page_run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, folder = page_run
    made = [yaml.safe_load(path.read_text()) for path in (folder / "temporary").glob("*/*.yaml")]
    assert len(made) == 10, done.stderr
    for secret in made:
        assert set(secret["data"]) == yours()["Secret", secret["metadata"]["name"]].keys
        assert all(secret["data"].values())
    spaces = {(one["metadata"]["name"], one["metadata"]["namespace"]) for one in made}
    assert {("sidlsg-s3", "sidlsg"), ("sidlsg-s3", "kubeflow")} <= spaces
    # The same keys at both places.
    both = [one["data"] for one in made if one["metadata"]["name"] == "sidlsg-s3"]
    assert both[0] == both[1]
    # And no two users share one.
    keys = {one["metadata"]["name"]: one["data"] for one in made if one["metadata"]["name"].startswith("sidlsg-s3")}
    assert len({data["AWS_ACCESS_KEY_ID"] for data in keys.values()}) == len(keys) == 6
    optional = {"sidlsg-mlflow", "sidlsg-notices"}
    assert {name for (kind, name) in yours() if kind == "Secret"} - optional == {name for name, _ in spaces}


def test_what_the_page_says_of_images_not_set(page_run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    (counts,) = [text for n, text in enumerate(outputs(page_run[0])) if "--count" in run_blocks()[n].text]
    every = [container["image"] for pod in pods(rendered("local")) for container in pod.containers]
    restore = re.findall(r"^ +image: ", (INFRA / "restore" / "job.yaml").read_text(), re.MULTILINE)
    expected = {"overlay": len(every), "restore": len(restore), "profile": len(set(IMAGES.values()))}
    assert counts.splitlines() == [f"{name}: {count} images without a digest" for name, count in expected.items()]


def test_paths_and_names_of_manifests_exist() -> None:
    for path in set(re.findall(r"\b((?:infra|images)/[\w./-]+\w)", TEXT)) - {"infra/profiles/local.toml"}:
        assert (ROOT / path).exists(), path
    rows = dict.fromkeys(re.findall(r"^\| `([a-z0-9-]+)` \| [^|]+ \| [^|]+ \|$", TEXT, re.MULTILINE))
    assert set(COMPONENTS) <= set(rows)
    assert {f"infra/overlays/{name}" for name in OVERLAYS} <= set(re.findall(r"`(infra/overlays/\w+)`", TEXT))


def test_the_table_of_overlays_says_what_they_ask_for() -> None:
    rows = re.findall(r"^\| `infra/overlays/(\w+)` \| [^|]+ \| (\d+) CPUs?, (\d+) GB, ([\d,]+) GB", TEXT, re.MULTILINE)
    assert [name for name, *_ in rows] == list(OVERLAYS)
    for name, *texts in rows:
        objects = rendered(name)
        services = [pod for pod in pods(objects) if pod.serves and pod.namespace == "sidlsg"]
        asked = {"cpu": 0.0, "memory": 0.0}
        for pod in services:
            for kind in asked:
                each = [quantity(container["resources"]["requests"][kind]) for container in pod.spec["containers"]]
                asked[kind] += pod.replicas * sum(each)
        claims = [claim for one in objects for claim in one.get("spec", {}).get("volumeClaimTemplates", [])]
        claims += [one for one in objects if one["kind"] == "PersistentVolumeClaim"]
        disk = sum(quantity(claim["spec"]["resources"]["requests"]["storage"]) for claim in claims)
        found = [asked["cpu"], asked["memory"] / 2**30, disk / 2**30]
        assert [math.ceil(value) for value in found] == [int(text.replace(",", "")) for text in texts]


def test_the_versions_that_the_page_names_are_those_that_are_tested() -> None:
    from infra.test_schemas import VERSIONS

    assert f"Kubernetes {VERSIONS[0]}, {VERSIONS[1]} and {VERSIONS[2]}" in " ".join(TEXT.split())
