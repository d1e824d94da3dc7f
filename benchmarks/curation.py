"""Curation measured: which step costs what, how memory and time grow, and other engines for the exact part.

    python benchmarks/curation.py --rows 4000000 --folder /tmp/tables --output benchmarks/results/curation.json

Each way runs in a process of its own, and what is compared ran one after the other on the same machine. CPU seconds are
those of the process and its children; memory is the largest resident set of one process, and of all workers together.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

RULES = {"held_out.similarity": 0.75}
CAPTIONS = 30_000
"""Made-up evaluation captions: as many as the published protocols have."""


def main() -> None:
    """Make the tables, run the ways one after the other, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--memory-gb", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, required=True, help="tables go here, and stay")
    parser.add_argument("--output", type=Path, help="JSON; replaced")
    parser.add_argument("--ways", default="ours,steps,polars,pyarrow,daft")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(WAYS[arguments.one](arguments)))
        return
    from made_up_table import write_tables

    size = write_tables(arguments.folder, arguments.rows)
    results: dict[str, Any] = {
        "rows": arguments.rows,
        "bytes": size,
        "workers": arguments.workers,
        "memory_gb": arguments.memory_gb,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "ways": {},
    }
    for way in arguments.ways.split(","):
        results["ways"][way] = measured(way)
        print(way, json.dumps(results["ways"][way], indent=1), flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def measured(way: str) -> dict[str, Any]:
    """Run one way in a process of its own, and watch it."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", way]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        memory = Memory(process.pid)
        out, _ = process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        return {"failed": process.returncode}
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    seconds = {"wall_s": round(time.monotonic() - began, 1), "cpu_s": round(cpu, 1)}
    return {**found, **seconds, "peak_mb": memory.stop()}


class Memory:
    """The most that a process and its children hold at once, sampled: what they share counts once."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most, self._ended = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        """Megabytes."""
        self._ended.set()
        self._thread.join()
        return round(self._most / 1e3)

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self._most = max(self._most, sum(map(proportional_kb, family(self._pid))))


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(other for child in children for other in family(int(child)))]


def proportional_kb(pid: int) -> int:
    """A process's memory, with its share of what it shares."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole stage."""
    from sidlsg.prompts.plan import Execution
    from sidlsg.prompts.rule_files import rules_with
    from sidlsg.stages.curate import curate

    with tempfile.TemporaryDirectory(dir=arguments.folder.parent) as output:
        execution = Execution(workers=arguments.workers, memory_gb=arguments.memory_gb)
        record = curate(
            [str(arguments.folder)], Path(output) / "set", rules_with(RULES), captions(), execution, lambda _: None
        )
    return {"prompts": record.count, "funnel": {step.name: step.rows_out for step in record.funnel}}


def steps(arguments: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of each phase, and of each step that looks at one row, in one process and one thread."""
    from sidlsg.prompts.curation import begin, run_phase
    from sidlsg.prompts.engines import Engine
    from sidlsg.prompts.phases import exact_duplicates as unique
    from sidlsg.prompts.phases import row_steps, scan
    from sidlsg.prompts.phases.phases import PHASES
    from sidlsg.prompts.plan import Execution, make_plan
    from sidlsg.prompts.rule_files import rules_with

    spent: dict[str, list[float]] = {}
    watched = [
        (scan, "read_batches"),
        (row_steps, "clean_all"),
        (row_steps, "other_language"),
        (row_steps, "junk_reason"),
        (scan, "same_text_keys"),
        (scan, "digests"),
        (unique, "token_counts"),
        (unique, "same_words_keys"),
        (unique, "content_words_keys"),
        (unique, "signatures"),
    ]
    for module, name in watched:
        setattr(module, name, timed(getattr(module, name), spent.setdefault(name, [0.0, 0])))
    row_steps.UnsafeWords.found = timed(row_steps.UnsafeWords.found, spent.setdefault("unsafe_words", [0.0, 0]))
    plan = make_plan([str(arguments.folder)], rules_with(RULES), captions(), Execution(memory_gb=arguments.memory_gb))
    phases = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder.parent) as place:
        work, plan = begin(place, plan)
        for phase in PHASES:
            began = time.process_time()
            run_phase(work, plan, phase, Engine())
            phases[phase.name] = round(time.process_time() - began, 1)
        unique_rows = sum(r["funnel"]["duplicates"]["rows_out"] for r in work.done("unique").values())
    near = sum(phases[name] for name in ("pairs", "left", "verify", "groups", "settle"))
    return {
        "phases_cpu_s": phases,
        "steps": {name: {"cpu_s": round(s, 1), "rows": rows} for name, (s, rows) in spent.items()},
        "scan_rows_per_cpu_s": round(arguments.rows / phases["scan"]),
        "unique_rows": unique_rows,
        "near_phases_cpu_s": round(near, 1),
    }


def timed(function: Callable[..., Any], total: list[float]) -> Callable[..., Any]:
    """A function that adds up its CPU seconds and the rows it was given, or gave."""

    def run(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        result = function(*arguments, **options)
        if hasattr(result, "__next__"):
            return timed_iterator(result, total)
        total[0] += time.process_time() - began
        total[1] += len(result)
        return result

    return run


def timed_iterator(values: Any, total: list[float]) -> Any:
    """The values, their making timed."""
    while True:
        began = time.process_time()
        value = next(values, None)
        total[0] += time.process_time() - began
        if value is None:
            return
        total[1] += len(value)
        yield value


def straight_polars(arguments: argparse.Namespace) -> dict[str, Any]:
    """The exact part as a straight script: score cut, a simple cleaning, exact duplicates."""
    import polars as pl

    text = pl.col("TEXT").str.normalize("NFKC").str.replace_all(r"<[a-zA-Z/!][^<>]*>", " ")
    text = text.str.replace_all(r"https?://\S*|www\.\S*", " ").str.replace_all(r"\s+", " ").str.strip_chars()
    words = pl.col("text").str.count_matches(" ", literal=True) + 1
    with tempfile.TemporaryDirectory(dir=arguments.folder.parent) as output:
        lazy = (
            pl.scan_parquet(arguments.folder / "*.parquet")
            .filter((pl.col("AESTHETIC_SCORE") >= 6) & (pl.col("punsafe") <= 0.5))
            .select(text.alias("text"), "AESTHETIC_SCORE")
            .filter(words.is_between(3, 60))
            .with_columns(key=pl.col("text").str.to_lowercase())
            .unique("key")
        )
        path = Path(output) / "out.parquet"
        lazy.sink_parquet(path, engine="streaming")
        count = pl.scan_parquet(path).select(pl.len()).collect().item()
    return {"prompts": count}


def pyarrow_python(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same in pyarrow and Python, a set of keys in memory."""
    import re
    import unicodedata

    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tag, url, seen = re.compile(r"<[a-zA-Z/!][^<>]*>"), re.compile(r"https?://\S*|www\.\S*"), set()
    schema = pa.schema([("text", pa.string()), ("score", pa.float32())])
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder.parent) as output,
        pq.ParquetWriter(Path(output) / "out.parquet", schema) as writer,
    ):
        for path in sorted(arguments.folder.glob("*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(columns=["TEXT", "punsafe", "AESTHETIC_SCORE"]):
                good = pc.and_(pc.greater_equal(batch["AESTHETIC_SCORE"], 6), pc.less_equal(batch["punsafe"], 0.5))
                kept = batch.filter(good)
                texts, scores = [], []
                for raw, score in zip(kept["TEXT"].to_pylist(), kept["AESTHETIC_SCORE"].to_pylist(), strict=True):
                    clean = unicodedata.normalize("NFKC", raw)
                    words = url.sub(" ", tag.sub(" ", clean)).split()
                    key = " ".join(words)
                    if 3 <= len(words) <= 60 and (folded := hash(key.lower())) not in seen:
                        seen.add(folded)
                        texts.append(key)
                        scores.append(score)
                writer.write_batch(pa.record_batch([texts, pa.array(scores, pa.float32())], schema=schema))
    return {"prompts": len(seen)}


def daft_native(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same in Daft's native runner, without NFKC, which it has not."""
    import daft
    from daft import col
    from daft import functions as f

    text = f.regexp_replace(col("TEXT"), r"<[a-zA-Z/!][^<>]*>", " ")
    text = f.strip(f.regexp_replace(f.regexp_replace(text, r"https?://\S*|www\.\S*", " "), r"\s+", " "))
    with tempfile.TemporaryDirectory(dir=arguments.folder.parent) as output:
        frame = (
            daft.read_parquet(str(arguments.folder / "*.parquet"))
            .where((col("AESTHETIC_SCORE") >= 6) & (col("punsafe") <= 0.5))
            .select(text.alias("text"), col("AESTHETIC_SCORE"))
            .with_column("key", f.lower(col("text")))
            .distinct("key")
        )
        frame.write_parquet(output)
        count = daft.read_parquet(f"{output}/*.parquet").count_rows()
    return {"prompts": count}


def captions() -> list[str]:
    """Evaluation captions, none of which is in the tables."""
    from made_up_table import make_table, vocabulary

    return make_table(CAPTIONS, 10**6, vocabulary(1))["TEXT"].to_list()


WAYS = {
    "ours": ours,
    "steps": steps,
    "polars": straight_polars,
    "pyarrow": pyarrow_python,
    "daft": daft_native,
}

if __name__ == "__main__":
    main()
