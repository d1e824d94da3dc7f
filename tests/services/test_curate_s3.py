"""Curation with everything on S3: sources, work and output. Each on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.seaweedfs import SeaweedFS
from sidlsg.prompts import plan as prepare
from sidlsg.prompts.curation import begin, run_phase
from sidlsg.prompts.engines import Engine, Processes
from sidlsg.prompts.phases.phases import PHASES
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.rules import CurationRules
from sidlsg.prompts.work import Work
from sidlsg.runtime.errors import InputError, StorageError
from sidlsg.stages.curate import curate
from sidlsg.storage.records import PromptSet
from sidlsg.storage.uri import open_store
from unit.prompts.planted import Corpus, plant

RULES = CurationRules()
SHARD = 150


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return plant(11, base=400)


@pytest.fixture(scope="module")
def source(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.write(tmp_path_factory.mktemp("local") / "planted", files=4, text=False)


@pytest.fixture(scope="module")
def local(corpus: Corpus, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PromptSet]:
    """What a curation of local files makes."""
    output = tmp_path_factory.mktemp("made") / "out"
    return output, curate([str(source)], output, RULES, corpus.captions, Execution(rows_per_shard=SHARD))


def upload(source: Path, place: str) -> str:
    store = open_store(place)
    for path in source.iterdir():
        store.write(path.name, path.read_bytes())
    return place


def contents(place: str) -> dict[str, bytes]:
    store = open_store(place)
    return {name: store.read(name) for name in store.names()}


def on_s3(corpus: Corpus, sources: str, output: str, **how: Any) -> PromptSet:
    return curate([sources], output, RULES, corpus.captions, Execution(rows_per_shard=SHARD, **how))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
def test_all_of_it_on_s3(
    s3_place: str, corpus: Corpus, source: Path, local: tuple[Path, PromptSet], workers: int
) -> None:
    sources = upload(source, f"{s3_place}/data/planted")
    record = on_s3(corpus, sources, f"{s3_place}/out", work=f"{s3_place}/work", workers=workers)
    output, expected = local
    assert record == expected
    found = contents(f"{s3_place}/out")
    assert set(found) == {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    # Origins are equal too, for files have the names that they have below their prefix.
    for name in [name for name in found if name.endswith((".parquet", PromptSet.FILE))]:
        assert found[name] == (output / name).read_bytes(), name
    assert contents(f"{s3_place}/data/planted").keys() == {path.name for path in source.iterdir()}


def test_only_some_of_it_on_s3(
    s3_place: str, corpus: Corpus, source: Path, local: tuple[Path, PromptSet], tmp_path: Path
) -> None:
    sources = upload(source, f"{s3_place}/planted")
    assert on_s3(corpus, sources, str(tmp_path / "out"), work=f"{s3_place}/work") == local[1]
    assert on_s3(corpus, str(source), f"{s3_place}/out", work=str(tmp_path / "work")) == local[1]
    local[1].verify(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "work"]
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(InputError, match=r"is on S3, so --work must name"):
        on_s3(corpus, sources, f"{s3_place}/out")


def test_nothing_at_a_prefix(s3_place: str, corpus: Corpus) -> None:
    for place in (f"{s3_place}/none", f"{s3_place}/none/", s3_place):
        with pytest.raises(InputError, match=f"there is nothing at {place}; give"):
            on_s3(corpus, place, f"{s3_place}/out", work=f"{s3_place}/work")
    assert contents(s3_place) == {}


def test_an_earlier_output_is_replaced(
    s3_place: str, corpus: Corpus, source: Path, local: tuple[Path, PromptSet]
) -> None:
    output = f"{s3_place}/out"
    more = Execution(rows_per_shard=40, work=f"{s3_place}/work")
    old = curate([str(source)], output, CurationRules(), [], more)
    assert len(old.shards) > len(local[1].shards)
    assert on_s3(corpus, str(source), output, work=f"{s3_place}/work") == local[1]
    found = contents(output)
    assert set(found) == {path.relative_to(local[0]).as_posix() for path in local[0].rglob("*") if path.is_file()}
    assert PromptSet.from_json(found[PromptSet.FILE].decode()) == local[1]


def test_something_else_at_the_output_is_refused(s3_place: str, corpus: Corpus, source: Path) -> None:
    store = open_store(f"{s3_place}/out")
    store.write("thesis.txt", b"words")
    with pytest.raises(InputError, match=rf"output {s3_place}/out holds something else"):
        on_s3(corpus, str(source), f"{s3_place}/out", work=f"{s3_place}/work")
    assert contents(f"{s3_place}/out") == {"thesis.txt": b"words"}


def test_something_else_is_refused_before_any_work(s3_place: str, corpus: Corpus, source: Path) -> None:
    open_store(f"{s3_place}/out").write("thesis.txt", b"words")
    with pytest.raises(InputError, match="holds something else"):
        on_s3(corpus, str(source), f"{s3_place}/out", work=f"{s3_place}/work")
    assert contents(f"{s3_place}/work") == {}


def test_the_sources_prefix_is_no_output(s3_place: str, corpus: Corpus, source: Path) -> None:
    sources = upload(source, f"{s3_place}/out/planted")
    before = contents(sources)
    with pytest.raises(InputError):
        on_s3(corpus, sources, f"{s3_place}/out", work=f"{s3_place}/work")
    assert contents(sources) == before


def test_sources_inside_an_earlier_output_are_not_deleted(s3_place: str, corpus: Corpus, source: Path) -> None:
    output = f"{s3_place}/out"
    on_s3(corpus, str(source), output, work=f"{s3_place}/work")
    sources = upload(source, f"{output}/planted")
    before = contents(sources)
    with pytest.raises(InputError, match="lies inside the output"):
        on_s3(corpus, sources, output, work=f"{s3_place}/work")
    assert contents(sources) == before


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """A server of this test alone, which may be killed."""
    with SeaweedFS(tmp_path / "server") as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_server_that_stops_in_the_middle(
    mortal: SeaweedFS, corpus: Corpus, source: Path, local: tuple[Path, PromptSet], workers: int
) -> None:
    place = f"s3://{mortal.make_bucket()}"
    sources = upload(source, f"{place}/planted")
    how = {"work": f"{place}/work", "workers": workers}
    plan = prepare.make_plan([sources], RULES, corpus.captions, Execution(workers=workers, rows_per_shard=SHARD))
    work, plan = begin(f"{place}/work/{plan.key()[:16]}", plan)
    for phase in PHASES[:3]:
        run_phase(work, plan, phase, Engine())
    mortal.kill()
    with pytest.raises(StorageError, match=r"does not answer .*run the same command") as caught:
        on_s3(corpus, sources, f"{place}/out", **how)
    assert "\n" not in str(caught.value)
    assert mortal.state["secret_key"] not in str(caught.value)
    with pytest.raises(StorageError, match="does not answer"):
        on_s3(corpus, str(source), f"{place}/out", **how)
    mortal.start()
    work = Work(work.uri)
    assert len(work.done("scan")) == len(plan.pieces)
    assert on_s3(corpus, sources, f"{place}/out", **how) == local[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_stops_while_tasks_run(
    mortal: SeaweedFS, corpus: Corpus, source: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"s3://{mortal.make_bucket()}"
    kind: Any = Engine if workers == 1 else Processes
    run = kind.run

    def killing(self: Any, at: str, tasks: Any, done: Any) -> None:
        if tasks and tasks[0].phase == "pairs":
            mortal.kill()
        run(self, at, tasks, done)

    monkeypatch.setattr(kind, "run", killing)
    with pytest.raises(StorageError, match=r"does not answer .*run the same command"):
        on_s3(corpus, str(source), f"{place}/out", work=f"{place}/work", workers=workers)
