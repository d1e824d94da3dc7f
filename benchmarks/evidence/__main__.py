"""The method's claims on a bundled domain: trains and scores what is missing, and writes the page of figures.

    python benchmarks/evidence --work runs/evidence

Hours on a CPU; stopped, the same command continues. `--study` chooses some, `--seeds` their number; `--page-only`
trains nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from page import write_page
from students import ROOTS, Workshop, label_scores
from studies import STUDIES, Training
from teacher import teacher_scores

from sidlsg.bundled.protocols import IMAGES
from sidlsg.runtime.errors import InputError


def say(text: str) -> None:
    """A line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def train(workshop: Workshop, trainings: Iterable[Training], seeds: range, jobs: int) -> bool:
    """Make all missing scorecards, seed by seed, short trainings first, some at once; whether all succeeded."""
    every = sorted(dict.fromkeys(trainings), key=lambda training: training.images)
    workshop.prepare(every)
    # Those that others start from come first.
    every = list(dict.fromkeys([*(each.start for each in every if each.start), *every]))
    missing = [(each, seed) for seed in seeds for each in every if not workshop.card(each, seed).exists()]
    began, failed = time.monotonic(), 0
    with ThreadPoolExecutor(jobs) as pool:
        made = {pool.submit(workshop.make, *each): each for each in missing}
        for count, future in enumerate(as_completed(made), start=1):
            training, seed = made[future]
            hours = (time.monotonic() - began) / 3600
            error = future.exception()
            failed += error is not None
            how = f"failed ({error}); see {workshop.work / 'log.txt'}" if error else "done"
            say(f"{count}/{len(missing)} after {hours:.2f} hours: {training.name}, seed {seed}: {how}")
    return not failed


def main() -> int:
    """Train and score what is missing, then write results and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of students and scorecards")
    parser.add_argument("--domain", choices=ROOTS, default="scenes", help="scenes, whose recipe trains in any case")
    parser.add_argument("--assets", default="", help="folder of `sidlsg teach` instead of the bundled files")
    parser.add_argument("--study", action="append", choices=STUDIES, help="by default all; may repeat")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds; 3 by default")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="trainings at once; by default one a processor"
    )
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of evidence.md and its images")
    parser.add_argument("--small", action="store_true", help="two iterations each, to try the command")
    parser.add_argument("--page-only", action="store_true", help="train nothing")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    root = f"{asked.assets}/" if asked.assets else ROOTS[asked.domain]
    workshop = Workshop(work=asked.work, domain=asked.domain, root=root)
    images = 64 if asked.small else IMAGES
    try:
        workshop.require_inputs(images)
    except InputError as error:
        parser.error(str(error))
    studies = {name: STUDIES[name] for name in asked.study or STUDIES}
    if asked.small:
        studies = {name: {at: replace(t, images=2 * t.batch) for at, t in s.items()} for name, s in studies.items()}
    seeds, complete = range(asked.seeds), True
    if not asked.page_only:
        trainings = [training for study in studies.values() for training in study.values()]
        complete = train(workshop, trainings, seeds, asked.jobs)
    made = {(t, s) for study in studies.values() for t in study.values() for s in seeds if workshop.card(t, s).exists()}
    records = [workshop.record(*each) for each in made]
    length = next(reversed(studies.get("length", {}).values()), None)
    seen = [seed for seed in seeds if (length, seed) in made]
    found = {
        "domain": asked.domain,
        "commits": sorted({record["git_commit"] for record in records}),
        "machines": sorted({record["hardware"] for record in records}),
        "trainings": len(records),
        "hours": sum(record["seconds"] for record in records) / 3600,
        "teacher": teacher_scores(workshop, images),
        "studies": {name: label_scores(workshop, trainings, seeds) for name, trainings in studies.items()},
        "prompts": {
            label: workshop.prompts(training)
            for label, training in studies.get("prompts", {}).items()
            if any((training, seed) in made for seed in seeds)
        },
        "curves": {f"{seed}": workshop.curve(length, seed) for seed in seen},
    }
    (asked.work / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    write_page(found, workshop.grids(length, seen[0]) if seen else [], asked.output)
    say(f"wrote {asked.output / 'evidence.md'}")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
