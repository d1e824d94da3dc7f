"""Files of statistics, ours and others', and files of other formats."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sidlsg.evaluate.feature_files import (
    FeatureSet,
    Source,
    import_mu_sigma,
    load_features,
    load_statistics,
    save_features,
    save_statistics,
)
from sidlsg.evaluate.fid import FeatureStatistics, Gaussian, frechet_distance
from sidlsg.evaluate.published_suite import load_references
from sidlsg.runtime.errors import InputError
from sidlsg.storage.tensors import save_tensors

SOURCE = Source(space="made-up/clean", network_sha256="a" * 64, images_sha256="b" * 64)


def features(seed: int, count: int = 50, dim: int = 6) -> torch.Tensor:
    return torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_statistics_are_read_bit_for_bit_and_merge(tmp_path: Path) -> None:
    for number in range(2):
        save_statistics(FeatureStatistics(6).update(features(number)), SOURCE, tmp_path / f"{number}.safetensors")
    (one, source), (two, _) = (load_statistics(tmp_path / f"{number}.safetensors") for number in range(2))
    assert source == SOURCE
    assert torch.equal(one.outer, FeatureStatistics(6).update(features(0)).outer)
    whole = FeatureStatistics(6).update(torch.cat([features(0), features(1)]))
    other = FeatureStatistics(6).update(features(2) + 1)
    assert frechet_distance(one.merge(two), other) == pytest.approx(frechet_distance(whole, other), rel=1e-12)


def test_features_can_be_read_again_and_make_statistics(tmp_path: Path) -> None:
    save_features(FeatureSet(features=features(0).float(), source=SOURCE), tmp_path / "f.safetensors")
    found = load_features(tmp_path / "f.safetensors")
    assert torch.equal(found.features, features(0).float())
    assert found.source == SOURCE
    statistics, source = load_statistics(tmp_path / "f.safetensors")
    assert torch.equal(statistics.outer, FeatureStatistics(6).update(features(0).float()).outer)
    assert source == SOURCE


def test_another_file_of_tensors_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "other.safetensors", {"sum": torch.zeros(3)}, {})
    with pytest.raises(InputError, match="holds no features or statistics"):
        load_statistics(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="holds no features"):
        load_features(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no such file"):
        load_statistics(tmp_path / "none.safetensors")


WHOLE = {"kind": "sidlsg/feature-statistics/1", "count": 3, "space": "s", "network_sha256": "n", "images_sha256": "i"}
SQUARE = {"sum": torch.zeros(2, dtype=torch.float64), "outer": torch.zeros(2, 2, dtype=torch.float64)}


@pytest.mark.parametrize(
    ("counters", "tensors"),
    [
        ({"count": value}, {}) for value in (None, -1, "3", 3.0, True, [3], {"a": 3}, 10**20)
    ]
    + [({name: value}, {}) for name in ("space", "network_sha256", "images_sha256") for value in (None, 3, ["s"], {})]
    + [({name: ...}, {}) for name in ("count", "space", "network_sha256", "images_sha256")]
    + [
        ({}, {"sum": torch.tensor(1.0, dtype=torch.float64)}),
        ({}, {"sum": torch.zeros(2, 2, dtype=torch.float64)}),
        ({}, {"sum": torch.zeros(2)}),
        ({}, {"sum": torch.zeros(3, dtype=torch.float64)}),
        ({}, {"outer": torch.zeros(2, dtype=torch.float64)}),
        ({}, {"outer": torch.zeros(2, 2)}),
    ],
)  # fmt: skip
def test_statistics_of_another_form_are_refused_with_one_line(
    tmp_path: Path, counters: dict[str, object], tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, SQUARE, WHOLE)
    assert load_statistics(path)[0].count == 3
    values = {name: value for name, value in (WHOLE | counters).items() if value is not ...}
    save_tensors(path, SQUARE | tensors, values)
    with pytest.raises(InputError, match="make the file again") as caught:
        load_statistics(path)
    assert "\n" not in str(caught.value)


def test_mu_and_sigma_give_the_same_distance(tmp_path: Path) -> None:
    values, other = features(0), FeatureStatistics(6).update(features(1) * 2)
    np.savez(tmp_path / "stats.npz", mu=values.numpy().mean(0), sigma=np.cov(values.numpy().T))
    expected = frechet_distance(FeatureStatistics(6).update(values), other)
    assert frechet_distance(import_mu_sigma(tmp_path / "stats.npz"), other) == pytest.approx(expected, rel=1e-10)


class Hostile:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.path, "gotcha"))


def test_a_pickle_in_it_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    np.savez(tmp_path / "hostile.npz", mu=np.array([Hostile(trap)], dtype=object), sigma=np.eye(1))
    with pytest.raises(InputError, match=r"is not a readable .npz of numbers"):
        import_mu_sigma(tmp_path / "hostile.npz")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps({"mu": Hostile(trap)}))
    with pytest.raises(InputError, match=r"is not a readable .npz of numbers"):
        import_mu_sigma(tmp_path / "bare.npz")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"mu": np.zeros(2)}, r"lacks sigma \(it has mu\)"),
        ({"mean": np.zeros(2), "cov": np.eye(2)}, r"lacks mu and sigma \(it has mean, cov\)"),
        ({"mu": np.zeros(2), "sigma": np.eye(3)}, r"are \(2,\) and \(3, 3\)"),
        ({"mu": np.array([0, np.nan]), "sigma": np.eye(2)}, "NaN or infinity"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 0.5], [0.0, 1.0]])}, "not symmetric"),
        ({"mu": np.array(["a"]), "sigma": np.eye(1)}, "not a readable .npz of numbers"),
    ],
)
def test_an_invalid_mean_or_covariance_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "stats.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        import_mu_sigma(tmp_path / "stats.npz")


def test_a_truncated_or_missing_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(20), sigma=np.eye(20))
    whole = (tmp_path / "stats.npz").read_bytes()
    (tmp_path / "stats.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"not a readable .npz"):
        import_mu_sigma(tmp_path / "stats.npz")
    with pytest.raises(InputError, match="no such file"):
        import_mu_sigma(tmp_path / "none.npz")


def test_arrays_that_claim_more_than_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "claims.npz", "w") as file:
        for name in ("mu", "sigma"):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
            file.writestr(f"{name}.npy", header.getvalue())
    with pytest.raises(InputError, match=r"is not a readable .npz of numbers"):
        import_mu_sigma(tmp_path / "claims.npz")
    monkeypatch.setattr("sidlsg.evaluate.feature_files.MOST_BYTES", 10_000)
    np.savez_compressed(tmp_path / "bomb.npz", mu=np.zeros(100), sigma=np.zeros((100, 100)))
    with pytest.raises(InputError, match=r"sigma in .*bomb.npz has 80,128 bytes unpacked; allowed: 10,000"):
        import_mu_sigma(tmp_path / "bomb.npz")


def test_files_of_other_formats_are_refused_with_those_that_are_read(tmp_path: Path) -> None:
    mu, sigma = np.zeros(4), np.eye(4)
    np.save(tmp_path / "a.npy", {"mu": mu, "sigma": sigma}, allow_pickle=True)  # type: ignore[arg-type]
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"mu": mu}))
    (tmp_path / "c.json").write_text("{}")
    (tmp_path / "d.safetensors").write_bytes(b"")
    for name in ("a.npy", "b.pkl", "c.json", "d.safetensors"):
        for load in (load_references, load_features, load_statistics):
            with pytest.raises(InputError, match=rf"{name} cannot be read as features; give .*safetensors.*\.npz with"):
                load(tmp_path / name)
    np.savez(tmp_path / "e.npz", mu=mu, sigma=sigma)
    # What it is shows in the content.
    (tmp_path / "e.npz").rename(tmp_path / "e")
    assert isinstance(load_references(tmp_path / "e").statistics, Gaussian)
