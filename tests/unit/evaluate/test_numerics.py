"""What an evaluation computes is that of its declared versions; see numerics.py, which writes the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidlsg.bundled import measures as shapes_measures
from sidlsg.bundled.protocols import DomainProtocols
from sidlsg.evaluate import NUMERICS, distances, fid, kid, networks, precision_recall
from sidlsg.evaluate.published import PROTOCOLS
from sidlsg.teacher.images import pixels_of
from unit.evaluate.numerics import COMMAND, FILE, MADE, numbers, version_name
from unit.golden_numbers import Numbers, differences, remake


def test_the_numbers_are_those_of_the_declared_versions() -> None:
    assert differences(FILE, numbers(), COMMAND) == []


def test_whatever_is_computed_has_a_version_and_there_are_no_others(protocols: DomainProtocols) -> None:
    needed = {"sampling", "attributes"}
    needed |= {measure.name for measure in protocols.measures(protocols.sets[0])}
    needed |= {each.space for each in PROTOCOLS.values()} | {each.formula for each in PROTOCOLS.values()}
    assert set(NUMERICS) == set(MADE) == needed


def test_a_measures_version_is_a_part_of_its_identity(
    protocols: DomainProtocols, monkeypatch: pytest.MonkeyPatch
) -> None:
    for measure in protocols.measures(protocols.sets[0]):
        before = measure.identity
        monkeypatch.setitem(NUMERICS, measure.name, "2")
        assert measure.identity != before


@pytest.mark.parametrize(
    ("name", "place", "attribute", "other"),
    [
        ("judge", shapes_measures, "pixels_of", lambda images: pixels_of(images) * 127.5 / 128),
        ("efficientnet", networks, "INPUT_SIZE", 95),
        ("inception-2015-12-05/clean", networks, "to_256", lambda image: image.resize((256, 256))),
        ("frechet", fid, "_root_trace", lambda a, b: (a.cov @ b.cov).trace().sqrt()),
        ("kernel", kid, "_kernel_sums", lambda a, b, in_a, in_b: (in_a * (a @ b.T @ in_b)).sum(0)),
        ("manifolds", precision_recall, "_squared_distances", lambda a, b: [(a[:, None] - b).abs().sum(2)]),
        ("attributes", distances, "NORMAL_95", 1.9),
    ],
)
def test_a_changed_formula_needs_another_version(
    name: str, place: Any, attribute: str, other: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version, file = version_name(name), tmp_path / "numerics.json"
    kept = json.loads(FILE.read_text())[version]
    remake(file, {version: Numbers(**kept)})
    monkeypatch.setattr(place, attribute, other)
    found = numbers([name])
    (said,) = differences(file, found, COMMAND)
    assert f"and {version} is the same. If results should change, raise {version} by hand and run `{COMMAND}`" in said
    monkeypatch.setitem(NUMERICS, name, "2")
    (said,) = differences(file, {version: Numbers(version=NUMERICS[name], values=found[version].values)}, COMMAND)
    assert said == f"{version} is '2', and {file} was made for {kept['version']!r}: run `{COMMAND}`"
