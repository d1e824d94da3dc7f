"""The pipeline that spreads a curation over pods, through Kubeflow Pipelines' local runner."""

from __future__ import annotations

import builtins
import io
import logging
from pathlib import Path

import pytest

from sidlsg.kubeflow.local.execution import kfp_local
from sidlsg.pipelines.curate import curate as pipeline
from sidlsg.prompts.held_out import read_held_out
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.rules import CurationRules
from sidlsg.stages.curate import curate
from sidlsg.storage.records import PromptSet
from sidlsg.storage.uri import HELD_OUT, PROMPTS, resolve


@pytest.mark.long
def test_pods_make_the_set_that_one_machine_makes(tmp_path: Path) -> None:
    plain_print, handlers = builtins.print, logging.getLogger().handlers[:]
    with kfp_local(outputs=tmp_path / "kfp", cache=tmp_path / "cache", scratch=tmp_path, sink=io.StringIO()):
        run = pipeline(pods=2, work=str(tmp_path / "work"), output=str(tmp_path / "copy"))
    # Two pods are two threads, which may leave their own behind.
    assert builtins.print is plain_print
    assert logging.getLogger().handlers == handlers
    made = Path(run.outputs["prompt_set"].path)
    record = PromptSet.load(made)
    record.verify(made)
    alone = curate([PROMPTS], tmp_path / "alone", CurationRules(), read_held_out(resolve(HELD_OUT)), Execution())
    assert record == alone == PromptSet.load(tmp_path / "copy")
    assert "Curated prompts" in Path(run.outputs["html"].path).read_text()
    assert not list((tmp_path / "work").rglob("*.tables"))
