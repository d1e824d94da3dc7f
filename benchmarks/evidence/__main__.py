"""The method's claims on a bundled domain: trains and scores what is missing, and writes the page of figures.

    python benchmarks/evidence --results benchmarks/results/evidence.json --work runs/evidence --output docs

Hours on a CPU; stopped, the same command continues, on another machine from the results file alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from claims import needed
from page import write_page
from results import Results
from students import ROOTS, Workshop
from studies import STUDIES, Training
from teacher import score_teacher

from sidlsg.bundled.protocols import IMAGES
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import cpu_quota


def say(text: str) -> None:
    """A line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def train(workshop: Workshop, results: Results, wanted: Sequence[tuple[Training, int]], jobs: int, images: int) -> bool:
    """Add all missing scores, of some trainings at once and of the teacher; whether all succeeded."""
    missing = [each for each in wanted if not results.has(*each)]
    workshop.prepare([training for training, _ in missing])
    began, failed = time.monotonic(), 0
    pool = ThreadPoolExecutor(jobs)
    try:
        made = {pool.submit(workshop.make, *each): each for each in missing}
        score_teacher(workshop, results, images)
        for count, future in enumerate(as_completed(made), start=1):
            training, seed = made[future]
            error = future.exception()
            if error is None:
                results.add(training, seed, future.result())
            failed += error is not None
            how = f"failed ({error}); see {workshop.log}" if error else "done"
            hours = (time.monotonic() - began) / 3600
            say(f"{count}/{len(missing)} after {hours:.2f} hours: {training.name}, seed {seed}: {how}")
    finally:
        pool.shutdown(cancel_futures=True)
    return not failed


def main() -> int:
    """Train and score what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--results", type=Path, required=True, help="JSON file of scores; what it has is not done again"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of students in training, which may be lost")
    parser.add_argument("--output", type=Path, required=True, help="folder of evidence.md and its images")
    parser.add_argument("--domain", choices=ROOTS, default="scenes", help="scenes, whose recipe trains in any case")
    parser.add_argument("--assets", default="", help="folder of `sidlsg teach` instead of the bundled files")
    parser.add_argument("--study", action="append", choices=STUDIES, help="by default all; may repeat")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of what a claim compares, 3 by default")
    parser.add_argument("--jobs", type=int, default=cpu_quota(), help="trainings at once; by default one a CPU")
    parser.add_argument("--small", action="store_true", help="two iterations each, to try the command")
    parser.add_argument("--page-only", action="store_true", help="train nothing")
    asked = parser.parse_args()
    for name in ("seeds", "jobs"):
        if getattr(asked, name) < 1:
            parser.error(f"--{name} is {getattr(asked, name)}; give 1 or more")
    asked.work.mkdir(parents=True, exist_ok=True)
    root = f"{asked.assets}/" if asked.assets else ROOTS[asked.domain]
    workshop = Workshop(work=asked.work.absolute(), domain=asked.domain, root=root)
    images = 64 if asked.small else IMAGES
    try:
        results = Results.load(asked.results, workshop.identity(images))
    except InputError as error:
        parser.error(str(error))
    studies = {name: STUDIES[name] for name in asked.study or STUDIES}
    if asked.small:
        studies = {name: {at: replace(t, images=2 * t.batch) for at, t in s.items()} for name, s in studies.items()}
    complete = asked.page_only or train(workshop, results, needed(studies, asked.seeds), asked.jobs, images)
    if not results.teacher:
        parser.error(f"{asked.results} has no scores of the teacher yet; leave out --page-only")
    longest = max((t for study in studies.values() for t in study.values()), key=lambda training: training.curve)
    write_page(results, studies, workshop.grids(longest, 0), asked.output)
    say(f"wrote {asked.output / 'evidence.md'}")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
