"""What a notice says."""

from __future__ import annotations

from sidlsg.kubeflow.notices import LONGEST, MOST_RULES, Notice, Rejected


def test_a_failed_run_names_the_step_its_error_and_the_page() -> None:
    notice = Notice(
        kind="failed", pipeline="sweep", run="r1", run_url="https://k/#/runs/details/r1", step="distil", error="E: bad"
    )
    assert notice.payload() == {
        "id": "sidlsg-r1",
        "kind": "failed",
        "pipeline": "sweep",
        "run": "r1",
        "run_url": "https://k/#/runs/details/r1",
        "step": "distil",
        "error": "E: bad",
        "rejected": (),
        "text": "sweep failed in step distil: E: bad\nRun r1: https://k/#/runs/details/r1",
        "mrkdwn": False,
    }


def test_a_rejected_run_names_the_rules() -> None:
    notice = Notice(
        kind="rejected",
        pipeline="p",
        run="r1",
        rejected=(Rejected(name="m", version=3, rules=("fid at most 3: 7.1",)),),
    )
    assert notice.payload()["text"] == "p: the gate rejected version 3 of m\n- fid at most 3: 7.1\nRun r1"
    (told,) = notice.payload()["rejected"]
    assert told == {"name": "m", "version": 3, "rules": ("fid at most 3: 7.1",), "awaits_approval": False}


def test_a_version_that_lacks_an_approval_alone_is_not_called_rejected() -> None:
    waiting = Rejected(name="m", version=3, rules=("approved by ann: by nobody",), awaits_approval=True)
    text = Notice(kind="rejected", pipeline="p", run="r1", rejected=(waiting,)).payload()["text"]
    assert text == "p: version 3 of m awaits an approval\n- approved by ann: by nobody\nRun r1"


def test_the_texts_of_others_are_plain_lines_within_bounds() -> None:
    rules = tuple(f"<!channel> rule {number}" for number in range(100))
    notice = Notice(
        kind="failed",
        pipeline="p",
        run="r",
        error="\x1b[2J <http://x|here>\n" + "long" * 1000,
        rejected=(Rejected(name="m" * 999, version=1, rules=rules),),
    )
    payload = notice.payload()
    assert len(payload["error"]) == LONGEST
    assert payload["error"].startswith("\\x1b[2J <http://x|here> long")
    assert len(payload["rejected"][0]["rules"]) == MOST_RULES
    assert "<" not in payload["text"]
    assert "&lt;!channel&gt; rule 0" in payload["text"]
