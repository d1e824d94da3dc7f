from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.kubeflow.nodes.handover import DIGESTS, Handover
from sidlsg.kubeflow.nodes.order import Bundle, JobSpec
from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.records import Student
from unit.kubeflow.nodes.asked import make_parcel


@pytest.fixture
def parcel(tiny_student: Path, tmp_path: Path) -> Bundle:
    return make_parcel(tiny_student, tmp_path)


@pytest.fixture
def handover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Handover:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    return Handover(str(tmp_path / "handover"))


def test_inputs_arrive_as_they_were_sent(handover: Handover, parcel: Bundle) -> None:
    said: list[str] = []
    handover.stage(parcel, said.append)
    order = handover.order(parcel.order.digest)
    assert order == parcel.order
    folder = handover.fetch(order)
    for name, path in parcel.files.items():
        assert (folder / name).read_bytes() == path.read_bytes()
    assert handover.fetch(order) == folder
    assert said and said[0].endswith(f"go to {handover.place}")


def test_another_order_is_refused(handover: Handover, parcel: Bundle) -> None:
    handover.stage(parcel, print)
    with pytest.raises(ContentError, match="has SHA-256"):
        handover.order("0" * 64)


def test_a_file_that_was_changed_is_refused_and_nothing_counts_as_fetched(handover: Handover, parcel: Bundle) -> None:
    handover.stage(parcel, print)
    file = Path(handover.place) / "inputs" / "prompts" / "prompt_set.json"
    text = file.read_text()
    file.write_text(f"{text} ")
    with pytest.raises(ContentError, match="has SHA-256"):
        handover.fetch(parcel.order)
    file.write_text(text)
    assert (handover.fetch(parcel.order) / "prompts" / "prompt_set.json").read_text() == text


def test_without_its_digests_there_is_no_student(
    handover: Handover, parcel: Bundle, tiny_student: Path, tmp_path: Path
) -> None:
    handover.stage(parcel, print)
    handover.give(tiny_student)
    assert handover.has_student()
    handover.store.delete([DIGESTS])
    assert not handover.has_student()
    with pytest.raises(ContentError, match="SHA256SUMS"):
        handover.take(parcel.order, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_student_arrives_whole(handover: Handover, parcel: Bundle, tiny_student: Path, tmp_path: Path) -> None:
    handover.give(tiny_student)
    assert handover.take(parcel.order, tmp_path / "out") == Student.load(tiny_student)
    here, there = (
        {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in (tmp_path / "out", tiny_student)
    )
    assert here == there


def test_a_new_attempt_begins_without_the_earlier_ones_student(
    handover: Handover, parcel: Bundle, tiny_student: Path
) -> None:
    handover.give(tiny_student)
    handover.stage(parcel, print)
    assert not handover.has_student()


def test_all_of_it_goes(handover: Handover, parcel: Bundle, tiny_student: Path) -> None:
    handover.stage(parcel, print)
    handover.give(tiny_student)
    handover.remove()
    assert not Path(handover.place).exists()
    handover.remove()


def test_a_node_makes_no_handover_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        Handover(str(tmp_path / "none"), create=False)


def test_an_order_is_read_by_its_file(handover: Handover, parcel: Bundle) -> None:
    handover.stage(parcel, print)
    assert (Path(handover.place) / JobSpec.FILE).exists()
