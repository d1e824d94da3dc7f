"""The commands `sidlsg evaluate`, `images` and `protocols`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.options import InputOptions, Json, ScoreOptions, Weights
from sidlsg.runtime.provenance import remark, say

UNKNOWN = "no published digest is known here, so make sure that your file is the protocol's network"
FileOutput = Annotated[Path, typer.Option(help="The safetensors file to write.")]


def evaluate(
    student: Annotated[Path, typer.Option(help="Folder of a student.")],
    output: Annotated[Path, typer.Option(help="Folder of the scorecard.")],
    inputs: InputOptions,
    scoring: ScoreOptions,
) -> None:
    """Score a student and its teacher; the same command again resumes.

    A teacher of a bundled domain is scored under its protocols. Under torchrun, each process samples its share of the
    images: torchrun --nproc-per-node 8 -m sidlsg evaluate ...

    Examples:
      sidlsg evaluate --student runs/demo/student --output scores
      sidlsg evaluate --student s --teacher sd15 --held-out h.txt --output scores
    """
    from sidlsg.cli.tables import print_scores
    from sidlsg.distil.recipes import published_results
    from sidlsg.evaluate.published_suite import load_published
    from sidlsg.evaluate.weights import read_weights
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.report.scoreboard import write_scoreboard
    from sidlsg.runtime.distributed import is_rank0
    from sidlsg.stages.evaluate import evaluate as stage
    from sidlsg.storage.uri import resolve
    from sidlsg.teacher.source import checked_teacher

    folder, teacher_sha256 = checked_teacher(inputs.teacher, layout=inputs.teacher_layout, variant=inputs.variant)
    card = stage(
        student,
        folder,
        output,
        read_held_out(resolve(inputs.held_out)),
        resolve(inputs.judge),
        say,
        published=load_published(scoring.protocols, read_weights(scoring.weights) if scoring.weights else {}),
        settings=scoring.teacher_settings or None,
        keep_images=scoring.keep_images,
        teacher_sha256=teacher_sha256,
    )
    if is_rank0():
        page = output / "scoreboard.html"
        write_scoreboard([(student.name, output)], page, f"Scores of {student.name}", published_results())
        print_scores(card)
        print(f"with images: {page}")


def protocols(weights: Weights = None, as_json: Json = False) -> None:
    """List the published protocols, and the files that they lack.

    Examples:
      sidlsg protocols
      sidlsg protocols --weights weights.toml --json
    """
    from sidlsg.evaluate.published import PROTOCOLS
    from sidlsg.evaluate.weights import FILES, read_weights, weight_path
    from sidlsg.runtime.errors import SidlsgError

    named = read_weights(weights) if weights is not None else {}
    states: dict[str, str] = {}
    for name in FILES:
        try:
            states[name] = f"here: {weight_path(named, name)}"
        except SidlsgError as error:
            states[name] = f"not here: {error}" if name in named else "not named in weights.toml"
    if as_json:
        rows = [{**asdict(each), "files": {name: states[name] for name in each.files}} for each in PROTOCOLS.values()]
        print(json.dumps(rows, indent=1))
        return
    for protocol in PROTOCOLS.values():
        print(f"{protocol.name}: {protocol.about}")
        counts = ((protocol.images, "generated"), (protocol.references, "reference"))
        takes = [f"{count:,} {what} images" for count, what in counts if count]
        takes = takes or [f"{protocol.least:,} images or more"]
        print(f"  takes {' and '.join(takes)}; gives {', '.join(protocol.scores)}")
        lacking = [name for name in protocol.files if not states[name].startswith("here")]
        state = f"lacks {', '.join(lacking)}" if lacking else "all here"
        print(f"  needs {', '.join(protocol.files)}: {state}")
    for name, about in FILES.items():
        print(f"{name}: {about}\n  {states[name]}")


def features(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of PNG or JPEG files; captions pair with them by number.")
    ],
    protocol: Annotated[
        str, typer.Option(metavar="NAME", help="Whose network and resizing to use; see `sidlsg protocols`.")
    ],
    output: FileOutput,
    weights: Weights = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="These are reference images, which may be greyscale.")
    ] = False,
) -> None:
    """Write the features of a folder's images; the same command again resumes.

    Examples:
      sidlsg images features pictures --protocol NAME --output a.safetensors
      sidlsg images features coco --protocol NAME --reference --output r.st
    """
    from sidlsg.evaluate.image_files import extract_features, first_pairs, image_files, in_caption_order, passed_over
    from sidlsg.evaluate.networks import load_network
    from sidlsg.evaluate.published import get_protocol
    from sidlsg.evaluate.weights import read_weights, weight_path
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.runtime.errors import InputError
    from sidlsg.runtime.hardware import best_device, set_threads
    from sidlsg.storage.files import require_file

    chosen, prompts = get_protocol(protocol), None
    if chosen.formula == "preference":
        raise InputError(f"{protocol} needs images by style, which `sidlsg evaluate` generates; a folder has no styles")
    if reference and not chosen.reference:
        raise InputError(f"{protocol} has no reference: it reads each image with its caption; omit --reference")
    require_file(output)
    over = passed_over(folder) if folder.is_dir() else ""
    files = image_files(folder, chosen.references if reference else chosen.images)
    named = read_weights(weights) if weights is not None else {}
    if chosen.formula == "cosine":
        prompts = read_held_out(weight_path(named, chosen.prompts), "list of captions")
        files = in_caption_order(files, prompts)
        say(f"the first images and captions: {first_pairs(files, prompts)}")
    path = weight_path(named, chosen.network)
    set_threads()
    network = load_network(chosen, named[chosen.network].sha256, path, best_device())
    made = extract_features(
        files, network, chosen.space, output, allow_grey=reference, prompts=prompts, passed_over=over
    )
    print(f"{len(made.features):,} images {made.source.images_sha256[:16]}… in {output}")
    remark(f"network {made.source.network_sha256}: {UNKNOWN}")
    if over:
        print(over)


def statistics(
    parts: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Files of features or statistics; several are merged.")
    ],
    output: FileOutput,
) -> None:
    """Write the statistics of features that a Fréchet distance needs, a file of fixed size.

    Examples:
      sidlsg images statistics coco.safetensors --output statistics.safetensors
      sidlsg images statistics a.safetensors b.safetensors --output c.safetensors
    """
    from sidlsg.evaluate.feature_files import merge_statistics

    count = merge_statistics(parts, output)
    print(f"statistics of {count:,} images in {output}")


def score(
    generated: Annotated[Path, typer.Argument(metavar="FILE", help="File of the generated images' features.")],
    protocol: Annotated[
        list[str], typer.Option(metavar="NAME", help="Repeat for more; `sidlsg protocols` lists them.")
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="File of the reference's features or statistics, or a .npz of mu and sigma."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Also write the scores to this folder.")] = None,
) -> None:
    """Print the scores of generated images, with intervals.

    Examples:
      sidlsg images score a.safetensors --protocol NAME --reference r.safetensors
      sidlsg images score ours.safetensors --protocol NAME --output scores
    """
    from sidlsg.evaluate.feature_files import load_features
    from sidlsg.evaluate.published import get_protocol
    from sidlsg.evaluate.published_suite import ImageScores, compare, load_references
    from sidlsg.storage.files import refuse_foreign, require_writable

    chosen = [get_protocol(name) for name in protocol]
    if output is not None:
        refuse_foreign(output, ImageScores.FILE)
        require_writable(output.absolute().parent)
    ours, theirs = load_features(generated), load_references(reference) if reference is not None else None
    scores = tuple(found for each in chosen for found in compare(ours, theirs, each))
    for found in scores:
        low, high = found.interval or (found.value, found.value)
        print(f"{found.name} {found.value:.6g} ({low:.6g} to {high:.6g})  {found.protocol}, {found.n:,} images")
    print(f"network {ours.source.network_sha256}: {UNKNOWN}")
    if ours.passed_over:
        print(f"of the generated images' folder: {ours.passed_over}")
    if output is not None:
        record = ImageScores(
            images_sha256=ours.source.images_sha256,
            scores=scores,
            passed_over=ours.passed_over,
            network_sha256=ours.source.network_sha256,
        )
        record.save(output)
