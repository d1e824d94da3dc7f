"""From a job spec to a student, whatever happens on the way; afterwards nothing is left."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.kubernetes_api import Api, complete, failed, lost, queued, restarted, running, says
from sidlsg.kubeflow.nodes.manifest import TRAINING
from sidlsg.kubeflow.nodes.staging import Staging
from sidlsg.runtime.errors import ContentError, InputError, SidlsgError
from sidlsg.storage.records import Student
from unit.kubeflow.nodes.launch import QUICK, Launch, make_bundle, make_nodes

Step = Callable[[Api], None]


def test_the_student_comes_back_and_nothing_is_left(launch: Launch, api: Api, given: Step, tiny_student: Path) -> None:
    api.script = [queued, queued, running, says(0, "iteration 1"), says(0, "iteration 2"), given, complete]
    student = launch.do()
    assert student == Student.load(tiny_student) == Student.load(launch.output)
    student.verify(launch.output)
    assert api.left() == launch.left() == []
    lines = [line for line in launch.reported if "node 0 |" in line]
    assert lines == ["node 0 | iteration 1", "node 0 | iteration 2"]
    assert [line for line in launch.reported if "in its queue" in line]
    assert any(line.endswith("runs") for line in launch.reported)
    assert any("is complete" in line for line in launch.reported)


def test_the_job_is_what_was_asked_for(launch: Launch, api: Api, given: Step) -> None:
    api.script = [given, complete]
    launch.nodes = replace(launch.nodes, queue="gpus")
    launch.do()
    (job,) = api.ever
    assert job["spec"]["trainer"]["numNodes"] == 2
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert job["metadata"]["name"] == launch.bundle.spec.job_name("")


def test_a_job_that_fails_on_one_node_says_which_and_why(launch: Launch, api: Api) -> None:
    api.script = [running, says(0, "iteration 1"), failed(1, 137, "CUDA out of memory", "the last line")]
    with pytest.raises(SidlsgError, match=r"node 1 ended with exit code 137.*to resume from the last checkpoint"):
        launch.do()
    assert "node 1 | CUDA out of memory\nnode 1 | the last line" in launch.text()
    assert api.left() == launch.left() == []
    assert not launch.output.exists()


def test_a_node_that_is_lost_is_restarted_by_the_cluster_and_the_step_waits_on(
    launch: Launch, api: Api, given: Step, tiny_student: Path
) -> None:
    lines = [says(0, "iteration 1"), lost(1, 1, "CUDA error"), restarted, says(0, "iteration 2")]
    api.script = [running, *lines, given, complete]
    assert launch.do() == Student.load(tiny_student)
    (line,) = [each for each in launch.reported if "restarts all nodes" in each]
    assert line.endswith("from the newest checkpoint (restart 1) after: node 1 ended with exit code 1")
    assert "node 1 | CUDA error" in launch.text()
    assert [line for line in launch.reported if "node 0 |" in line] == ["node 0 | iteration 1", "node 0 | iteration 2"]
    assert len(api.ever) == 1
    assert api.left() == launch.left() == []


def test_a_job_that_fails_after_restarts_reports_only_its_last_attempt(launch: Launch, api: Api) -> None:
    api.script = [running, lost(1, 1, "CUDA error"), restarted, failed(0, 4, "alarm")]
    with pytest.raises(SidlsgError, match=r"node 0 ended with exit code 4; see") as error:
        launch.do()
    assert "node 1" not in str(error.value)
    assert api.left() == launch.left() == []


def test_the_clusters_deadline_is_reported(launch: Launch, api: Api) -> None:
    api.script = [running, lambda api: api.set_condition("Failed", True, "DeadlineExceeded", "took 3600 s")]
    with pytest.raises(SidlsgError, match="exceeded its timeout, and was ended by the cluster"):
        launch.do()
    assert api.left() == launch.left() == []


def test_a_job_that_the_cluster_does_not_end_in_time_is_ended_here(launch: Launch, api: Api) -> None:
    api.script = [running]
    launch.intervals = replace(QUICK, running=0.2, margin=0.1)
    with pytest.raises(SidlsgError, match="did not end within"):
        launch.do()
    assert api.left() == launch.left() == []


def test_a_slow_queue_is_reported_and_not_counted_as_running(launch: Launch, api: Api, given: Step) -> None:
    api.script = [queued] * 60 + [given, complete]
    launch.intervals = replace(QUICK, running=0.1, margin=0.1, report=0.02)
    launch.do()
    assert len([line for line in launch.reported if "waits in its queue" in line]) > 3
    assert api.left() == launch.left() == []


def test_a_queue_that_never_lets_it_in_is_given_up(launch: Launch, api: Api) -> None:
    api.script = [queued]
    launch.intervals = replace(QUICK, queued=0.2)
    with pytest.raises(SidlsgError, match=r"not admitted by its queue.*queue_minutes"):
        launch.do()
    assert api.left() == launch.left() == []


def test_a_job_that_somebody_deletes_ends_the_step(launch: Launch, api: Api) -> None:
    api.script = [running, lambda api: api.vanish(api.job()["metadata"]["name"])]
    with pytest.raises(SidlsgError, match="was deleted while this step waited"):
        launch.do()
    assert api.left() == launch.left() == []


def test_a_successor_of_its_name_is_not_taken_for_the_job(launch: Launch, api: Api) -> None:
    def replaced(api: Api) -> None:
        job = copy.deepcopy(api.job())
        api.vanish(job["metadata"]["name"])
        api.add_job(job)

    api.script = [running, replaced, complete]
    with pytest.raises(SidlsgError, match="was deleted"):
        launch.do()


@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "lost", "cut", "stall"])
def test_a_fault_of_the_api_costs_time_and_nothing_else(launch: Launch, api: Api, given: Step, fault: str) -> None:
    api.script = [running, says(0, "one"), says(0, "two"), given, complete]
    # The first request of each kind, and some later ones; `create` is the third.
    api.faults = ["", fault, fault, fault, "", fault, "", "", fault] if fault != "stall" else ["", "", fault, "", fault]
    launch.do()
    assert api.happened[fault] >= 2
    assert len(api.ever) == 1
    assert [line for line in launch.reported if "node 0 |" in line] == ["node 0 | one", "node 0 | two"]
    assert api.left() == launch.left() == []


def test_a_running_job_is_found_again(launch: Launch, api: Api, given: Step) -> None:
    Staging(f"{launch.nodes.handover}/{launch.bundle.spec.job_name('')}").upload_inputs(launch.bundle, print)
    api.script = [given, complete]
    launch.do()
    (job,) = api.ever
    api.add_job(job)
    Staging(f"{launch.nodes.handover}/{job['metadata']['name']}").upload_inputs(launch.bundle, print)
    api.script = [running, given, complete]
    launch.do()
    assert len(api.ever) == 1
    assert "of an earlier attempt is still running" in launch.text()
    assert api.left() == launch.left() == []


def test_one_that_is_complete_gives_its_student(launch: Launch, api: Api, given: Step) -> None:
    api.script = [given, complete]
    launch.do()
    (job,) = api.ever
    api.add_job(job)
    Staging(f"{launch.nodes.handover}/{job['metadata']['name']}").upload_inputs(launch.bundle, print)
    given(api)
    complete(api)
    launch.do()
    assert len(api.ever) == 1
    assert "of an earlier attempt is complete" in launch.text()
    assert api.left() == launch.left() == []


@pytest.mark.parametrize("ended", [failed(0, 1, "the reason"), complete])
def test_one_that_ended_without_a_student_is_replaced(launch: Launch, api: Api, given: Step, ended: Step) -> None:
    api.script = [given, complete]
    launch.do()
    (job,) = api.ever
    api.add_job(job)
    ended(api)
    api.slow_to_go = 3
    api.script = [running, given, complete]
    launch.do()
    assert len(api.ever) == 2
    assert "ended without a student: a new one resumes" in launch.text()
    assert api.left() == launch.left() == []


def test_one_that_runs_with_other_settings_is_not_touched(launch: Launch, api: Api, given: Step) -> None:
    api.script = [given, complete]
    launch.do()
    api.add_job(api.ever[0])
    launch.nodes = replace(launch.nodes, timeout_minutes=5)
    with pytest.raises(InputError, match="with other nodes, image or settings"):
        launch.do()
    assert len(api.left()) == 1


def test_two_runs_do_not_write_the_same_checkpoints(
    launch: Launch, api: Api, given: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.script = [given, complete]
    launch.do()
    api.add_job(api.ever[0])
    monkeypatch.setenv("SIDLSG_PIPELINE_RUN", "another-run")
    with pytest.raises(InputError, match="writes the same checkpoints"):
        launch.do()
    assert api.left() == [api.ever[0]["metadata"]["name"]]
    assert launch.left() == []
    api.vanish(api.ever[0]["metadata"]["name"])
    api.script = [given, complete]
    launch.do()
    assert api.ever[-1]["metadata"]["labels"]["pipeline/runid"] == "another-run"


def test_of_two_that_start_at_the_same_time_the_later_one_gives_up(launch: Launch, api: Api) -> None:
    create = launch.cluster.create

    def created(job: dict[str, object]) -> dict[str, object]:
        twin = copy.deepcopy(job)
        twin["metadata"] |= {"name": "distil-000000000000"}  # type: ignore[operator]
        api.add_job(twin)
        return create(job)

    launch.cluster.create = created  # type: ignore[method-assign]
    with pytest.raises(InputError, match="distil-000000000000 writes the same checkpoints"):
        launch.do()
    assert api.left() == ["distil-000000000000"]
    assert api.job()["metadata"]["labels"][TRAINING] == launch.bundle.spec.training[:63]


def test_a_complete_job_without_a_student_is_an_error(launch: Launch, api: Api) -> None:
    api.script = [running, complete]
    with pytest.raises(ContentError, match="SHA256SUMS"):
        launch.do()
    assert api.left() == launch.left() == []
    assert not launch.output.exists()


def test_a_damaged_student_is_refused(launch: Launch, api: Api, given: Step) -> None:
    def damaged(api: Api) -> None:
        given(api)
        (file,) = launch.handover.rglob("training_log.jsonl")
        file.write_text("{}\n")

    api.script = [damaged, complete]
    with pytest.raises(ContentError, match="has SHA-256"):
        launch.do()
    assert api.left() == launch.left() == []
    assert not launch.output.exists()


def test_anothers_student_is_refused(launch: Launch, api: Api, given: Step, tiny_student: Path, tmp_path: Path) -> None:
    launch.bundle = make_bundle(tiny_student, tmp_path, seed=1)
    api.script = [given, complete]
    with pytest.raises(InputError, match="student of another seed"):
        launch.do()
    assert api.left() == launch.left() == []


def test_what_cannot_run_is_refused_before_anything_is_made(launch: Launch, api: Api, tmp_path: Path) -> None:
    for values, message in (
        ({"nodes": 3}, "batch 4 does not divide among 3 processes"),
        ({"image": "sidlsg:latest"}, "only a digest says"),
        ({"handover": "/elsewhere"}, "which only one machine sees"),
        ({"nodes": 0}, "nodes is 0; give 1 or more"),
    ):
        with pytest.raises(InputError, match=message):
            launch.nodes = make_nodes(tmp_path, **values)
            launch.do()
    assert api.ever == [] and launch.left() == []
    with pytest.raises(InputError, match="checkpoints is '/elsewhere'"):
        launch.nodes = make_nodes(tmp_path)
        launch.bundle = replace(launch.bundle, spec=replace(launch.bundle.spec, checkpoints="/elsewhere"))
        launch.do()
    assert api.ever == [] and launch.left() == []


@pytest.mark.parametrize(
    ("method", "plural", "code", "message", "expected"),
    [
        ("GET", "trainjobs", 404, "the server could not find the requested resource", "Kubeflow Trainer v2 must be"),
        ("GET", "trainjobs", 401, "Unauthorized", "does not accept the credentials"),
        (
            "POST",
            "trainjobs",
            403,
            'trainjobs is forbidden: User "x" cannot create resource "trainjobs"',
            "these rights: trainjobs",
        ),
        ("POST", "trainjobs", 403, 'admission webhook "v" denied the request: no such runtime', "no such runtime"),
        ("POST", "trainjobs", 422, "spec.trainer.numNodes: Invalid value", "refuses to create TrainJob.*numNodes"),
    ],
)
def test_a_refusal_says_what_is_lacking(
    launch: Launch, api: Api, method: str, plural: str, code: int, message: str, expected: str
) -> None:
    api.refusals[method, plural] = (code, message)
    with pytest.raises(InputError, match=expected):
        launch.do()
    assert api.left() == launch.left() == []


def test_without_the_right_to_read_pods_training_continues(launch: Launch, api: Api, given: Step) -> None:
    api.refusals["GET", "pods"] = (403, 'pods is forbidden: User "x" cannot list resource "pods"')
    api.script = [running, running, given, complete]
    launch.do()
    assert launch.text().count("nothing is known of the nodes, and training continues") == 1
    assert api.left() == launch.left() == []
