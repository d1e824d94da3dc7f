"""The command of profiles: `sidlsg profile-images`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def profile_images(
    profiles: Annotated[list[Path], typer.Argument(help="Profiles to change.")],
    images: Annotated[Path, typer.Option(help="The images.json of a release.")],
) -> None:
    """Put a release's images into profiles, by digest; comments and everything else stay as they are."""
    from sidlsg.kubeflow.digests import read_images, with_images
    from sidlsg.storage.files import atomic_write

    given = read_images(images)
    # All are read before one is written.
    changed = {path: with_images(path, given) for path in profiles}
    for path, text in changed.items():
        if text is not None:
            atomic_write(path.resolve(), text)  # a link stays one
        print(f"{path}: {'unchanged' if text is None else 'changed'}")
