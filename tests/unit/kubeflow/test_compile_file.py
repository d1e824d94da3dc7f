from pathlib import Path

import pytest
import yaml

from sidlsg.cli.catalog import compile_pipeline
from sidlsg.runtime.errors import InputError


def test_a_pipeline_is_written_and_replaced(tmp_path: Path) -> None:
    output = tmp_path / "new" / "pipeline.yaml"
    compile_pipeline(output)
    output.write_text("old")
    compile_pipeline(output)
    assert next(yaml.safe_load_all(output.read_text()))["pipelineInfo"]["name"] == "distil-and-evaluate"
    assert [p.name for p in output.parent.iterdir()] == ["pipeline.yaml"]


@pytest.mark.parametrize(("name", "written"), [("sweep", "sweep"), ("evaluate_only", "evaluate-only")])
def test_other_pipelines_are_written_by_name(tmp_path: Path, name: str, written: str) -> None:
    compile_pipeline(tmp_path / "pipeline.yaml", name)
    assert next(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text()))["pipelineInfo"]["name"] == written


def test_an_unknown_pipeline_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'sweeep' is unknown \(did you mean 'sweep'\?\); allowed: distil"):
        compile_pipeline(tmp_path / "pipeline.yaml", "sweeep")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["pipeline", "pipeline.json"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a YAML file"):
        compile_pipeline(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        compile_pipeline(tmp_path / "pipeline.yaml")
