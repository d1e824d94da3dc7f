"""The pinned versions: they are those that are installed, and they satisfy the package's bounds."""

from __future__ import annotations

import importlib.util
import re
import sysconfig
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from workflows.files import ROOT

FILE = ROOT / "constraints.txt"
OTHER_TORCH = ("eval-gpu",)
"""Extras that set-up does not install: they need another build of torch, see the Makefile."""


def pinned() -> dict[str, str]:
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_every_requirement_has_a_pin_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = project["dependencies"] + [text for name in extras if name not in OTHER_TORCH for text in extras[name]]
    pins = pinned()
    for requirement in map(Requirement, texts):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} has no pin"
        assert requirement.specifier.contains(version), f"{requirement} is not satisfied by {version}"


def test_what_is_installed_is_what_is_pinned() -> None:
    pins = pinned()
    # Of the environment alone: setuptools, once imported, adds what it brings along to sys.path.
    found = distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    installed = {canonicalize_name(each.metadata["Name"]): each.version.partition("+")[0] for each in found}
    differing = {name: (pins[name], installed[name]) for name in pins.keys() & installed.keys()}
    assert {name: both for name, both in differing.items() if both[0] != both[1]} == {}


def test_the_file_is_what_the_program_writes() -> None:
    spec = importlib.util.spec_from_file_location("constraints", ROOT / ".ci" / "constraints.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = re.findall(r"^(.+)==(.+)$", FILE.read_text(), re.MULTILINE)
    assert module.pins([("pip", "1"), ("sidlsg", "1"), *reversed(lines)]) == FILE.read_text()
    assert module.pins([("torch", "2.13.0+cpu")]).endswith("torch==2.13.0\n")


def test_the_evaluate_image_s_torchvision_is_made_for_the_torch_that_is_pinned() -> None:
    text = (ROOT / "images" / "evaluate" / "requirements-published.txt").read_text()
    (torchvision,) = re.findall(r"^torchvision==0\.(\d+)\.\d+$", text, re.MULTILINE)
    torch = pinned()["torch"].split(".")
    # torch 2.0 came with torchvision 0.15, and each release since with the next one.
    assert (torch[0], int(torchvision)) == ("2", int(torch[1]) + 15), "change it in requirements-published.txt"


def hashed() -> list[tuple[str, str]]:
    """Each file of hashed pins, and the file that it is made from."""
    text = (ROOT / "Makefile").read_text()
    (listed,) = re.findall(r"^HASHED := (.*?[^\\])$", text, re.MULTILINE | re.DOTALL)
    return [
        (f"images/{name}-hashed.txt", f"images/{name}.txt") for name in [*listed.replace("\\", "").split(), "executor"]
    ]


def names(file: str) -> set[str]:
    """The packages that a file asks for, those of files that it includes among them."""
    found: set[str] = set()
    for line in (ROOT / file).read_text().splitlines():
        if line.startswith("-r "):
            found |= names(str(Path(file).parent / line[3:]))
        elif line and not line.startswith("#"):
            found.add(canonicalize_name(Requirement(line).name))
    return found


def test_every_file_of_hashed_pins_is_made_by_the_recipe_and_used() -> None:
    files = [file for file, _ in hashed()]
    assert {str(file.relative_to(ROOT)) for file in (ROOT / "images").rglob("*-hashed.txt")} == set(files)
    workflow = (ROOT / ".github" / "workflows" / "images.yml").read_text()
    for file in files:
        folder, _, name = file.removeprefix("images/").rpartition("/")
        if folder:
            assert f"ARG REQUIREMENTS={name}" in (ROOT / "images" / folder / "Dockerfile").read_text()
        elif name != "executor-hashed.txt":
            assert file in workflow


@pytest.mark.parametrize(("file", "source"), hashed())
def test_hashed_pins_are_those_of_the_constraints_each_with_its_hashes(file: str, source: str) -> None:
    entries = re.sub(r"\\\n", " ", (ROOT / file).read_text()).splitlines()
    found = {}
    for entry in (line for line in entries if line and not line.startswith("#")):
        requirement, *hashes = entry.split(" --hash=")
        parsed = Requirement(requirement)
        (specifier,) = parsed.specifier
        assert specifier.operator == "=="
        assert hashes, parsed.name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", each) for each in hashes), parsed.name
        found[canonicalize_name(parsed.name)] = specifier.version
    assert names(source) <= set(found)
    pins = pinned()
    differing = {name: (version, pins[name]) for name, version in found.items() if pins.get(name, version) != version}
    assert differing == {}, "run make hashes"


def test_the_wheel_is_built_with_what_the_package_asks_for() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {canonicalize_name(Requirement(text).name) for text in wanted} == names("images/wheel.txt")


@pytest.mark.parametrize("target", ["setup", "constraints"])
def test_both_ways_to_set_up_install_the_same(target: str) -> None:
    text = (ROOT / "Makefile").read_text()
    wanted = {extra for line in re.findall(r"'\.\[(.*?)\]'", text) for extra in line.split(",")} - {"eval-gpu"}
    rule = text.partition("# torch comes first" if target == "setup" else "\nconstraints:")[2]
    (first, *_) = re.findall(r"'\.\[(.*?)\]'", rule)
    missing = wanted - set(first.split(","))
    # Some are slow or loud where they are installed, and are pinned all the same.
    assert missing <= ({"lowbit", "metrics", "ray"} if target == "setup" else set())
