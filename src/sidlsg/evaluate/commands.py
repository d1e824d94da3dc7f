"""The commands that score pictures of any origin: `sidlsg protocols` and `sidlsg images`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

images = typer.Typer(no_args_is_help=True, help="Score pictures of any origin under published protocols.")

Weights = Annotated[
    Path | None,
    typer.Option(help="TOML file that names the networks' files; `sidlsg protocols` says which.", show_default=False),
]
FileOutput = Annotated[Path, typer.Option(help="The safetensors file to write.")]


def protocols(weights: Weights = None) -> None:
    """List the published protocols, what files they need, and whether those are there."""
    from sidlsg.errors import SidlsgError
    from sidlsg.evaluate.published import PROTOCOLS
    from sidlsg.evaluate.weights import WEIGHTS, read_weights, weight_path

    named = read_weights(weights) if weights is not None else {}
    for protocol in PROTOCOLS.values():
        print(f"{protocol.name}: {protocol.about}")
        counts = ((protocol.images, "generated"), (protocol.references, "reference"))
        takes = [f"{count:,} {what} pictures" if count else f"{what} pictures" for count, what in counts]
        print(f"  takes {' and '.join(takes)}; gives {', '.join(protocol.scores)}")
    for name in dict.fromkeys(protocol.network for protocol in PROTOCOLS.values()):
        try:
            state = f"here: {weight_path(named, name)}"
        except SidlsgError as error:
            state = f"not here: {error}"
        print(f"{name}: {WEIGHTS[name]}\n  {state}")


@images.command("features")
def features(
    folder: Annotated[Path, typer.Argument(help="Folder of PNG or JPEG files, scored by name in order.")],
    protocol: Annotated[str, typer.Option(help="Whose network and resizing to use; `sidlsg protocols` lists them.")],
    output: FileOutput,
    weights: Weights = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="These are the reference's pictures: grey photographs are taken too.")
    ] = False,
) -> None:
    """Write the features of a folder's pictures; the same command again goes on where a killed one was."""
    from sidlsg.evaluate.extract import extract_features
    from sidlsg.evaluate.image_files import image_files
    from sidlsg.evaluate.inception import InceptionFeatures
    from sidlsg.evaluate.published import get_protocol
    from sidlsg.evaluate.weights import read_weights, weight_path
    from sidlsg.hardware import best_device, set_threads
    from sidlsg.storage import sha256_file

    chosen = get_protocol(protocol)
    files = image_files(folder, chosen.references if reference else chosen.images)
    network = weight_path(read_weights(weights) if weights is not None else {}, chosen.network)
    set_threads()
    made = extract_features(
        files,
        InceptionFeatures(network, chosen.resize, best_device()),
        chosen.space,
        sha256_file(network),
        output,
        allow_grey=reference,
    )
    print(f"{len(made.features):,} pictures {made.source.images_sha256[:16]}… in {output}")


@images.command("statistics")
def statistics(
    parts: Annotated[list[Path], typer.Argument(help="Files of features or statistics; several are merged.")],
    output: FileOutput,
) -> None:
    """Write what a Fréchet distance needs of one or several files of features: a file of fixed size."""
    from sidlsg.evaluate.merge import merge_statistics

    count = merge_statistics(parts, output)
    print(f"statistics of {count:,} pictures in {output}")


@images.command("score")
def score(
    generated: Annotated[Path, typer.Argument(help="File of the generated pictures' features.")],
    reference: Annotated[
        Path, typer.Option(help="File of the reference's features or statistics, or a .npz of mu and sigma.")
    ],
    protocol: Annotated[list[str], typer.Option(help="Repeat for more; `sidlsg protocols` lists them.")],
    output: Annotated[Path | None, typer.Option(help="Also write the scores to this folder.")] = None,
) -> None:
    """Print the scores of generated pictures, with intervals."""
    from sidlsg.evaluate.compare import ImageScores, compare, load_references
    from sidlsg.evaluate.feature_files import load_features
    from sidlsg.evaluate.published import get_protocol
    from sidlsg.storage import refuse_foreign

    chosen = [get_protocol(name) for name in protocol]
    if output is not None:
        refuse_foreign(output, ImageScores.FILE)
    ours, theirs = load_features(generated), load_references(reference)
    scores = tuple(found for each in chosen for found in compare(ours, theirs, each))
    for found in scores:
        low, high = found.interval or (found.value, found.value)
        print(f"{found.name} {found.value:.6g} ({low:.6g} to {high:.6g})  {found.protocol}, {found.n:,} pictures")
    if output is not None:
        ImageScores(images_sha256=ours.source.images_sha256, scores=scores).save(output)
