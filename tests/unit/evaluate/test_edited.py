"""An evaluation that was killed, continued by edited code: what an edited comment leaves is used again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sidlsg.evaluate import scoring as one_pass
from sidlsg.runtime.provenance import code_digest
from sidlsg.stages import evaluate as stage
from unit.edited import comment, edited

COUNT, BLOCK = 16, 4
PARTS = ".card.parts/student_1_step/shapes"


def few(
    modules: tuple[Any, Any], seen: list[range], patch: pytest.MonkeyPatch, dies_at: int = -1
) -> Callable[..., Any]:
    """The stage on few images; notes which blocks of the student are sampled, and may be killed at one."""
    its_stage, its_pass = modules
    patch.setattr(its_pass, "BLOCK", BLOCK)
    patch.setattr(its_stage, "load_domain_protocols", partial(its_stage.load_domain_protocols, count=COUNT))
    sample = its_stage.StockSampler.__call__

    def sampled(self: Any, prompts: Sequence[str], seeds: Sequence[int], setting: Any) -> Any:
        # Grids and the best and worst images are sampled at lists of places.
        if isinstance(seeds, range):
            if seeds.start == dies_at:
                raise KeyboardInterrupt
            seen.append(seeds)
        return sample(self, prompts, seeds, setting)

    patch.setattr(its_stage.StockSampler, "__call__", sampled)
    evaluate: Callable[..., Any] = its_stage.evaluate
    return evaluate


def test_blocks_of_before_an_edited_comment_are_used_again(
    tiny_student: Path, assets: Path, held_out: list[str], judge_file: Path, tmp_path: Path
) -> None:
    inputs = (tiny_student, assets / "tiny-sd", tmp_path / "card", held_out, judge_file, print)
    seen: list[range] = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        few((stage, one_pass), seen, patch, dies_at=8)(*inputs, settings=[])
    assert seen == [range(4), range(4, 8)]
    assert len(list((tmp_path / PARTS).iterdir())) == 2

    edits = {"evaluate/fid.py": comment, "stages/evaluate.py": comment, "bundled/judge.py": comment}
    with edited(tmp_path / "new", edits), pytest.MonkeyPatch.context() as patch:
        from sidlsg.evaluate import scoring as new_pass
        from sidlsg.runtime.provenance import code_digest as new_digest
        from sidlsg.stages import evaluate as new_stage

        again: list[range] = []
        card = few((new_stage, new_pass), again, patch)(*inputs, settings=[])
        assert card.package_sha256 == new_digest() != code_digest()
    assert again == [range(8, 12), range(12, 16)]
    assert card.subject("student 1 step").score("fid_judge").n == COUNT
