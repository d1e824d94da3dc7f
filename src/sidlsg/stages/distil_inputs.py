"""Optional inputs of a training: the network that the generator starts from, and real images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sidlsg.distil.adversarial import RealImages
from sidlsg.distil.recipes import Recipe
from sidlsg.prompts.shards import read_prompts
from sidlsg.runtime.errors import InputError
from sidlsg.storage.real_image_set import RealImageSet
from sidlsg.storage.records import PromptSet
from sidlsg.storage.uri import resolve_with_digest
from sidlsg.teacher.config import read_config
from sidlsg.teacher.embeddings import open_embeddings
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.format import DIFFUSERS
from sidlsg.teacher.latents import LatentReader, vae_digest
from sidlsg.teacher.pipeline import Teacher, load_network


def starting_network(uri: str, teacher: Teacher) -> tuple[Any, str]:
    """The network that the generator starts from and its digest; None and an empty string for the teacher's."""
    if not uri:
        return None, ""
    folder, sha256 = resolve_with_digest(uri, folder=DIFFUSERS)
    check_folder(folder)
    network = load_network(folder)
    ours, its = ({name: p.shape for name, p in each.named_parameters()} for each in (teacher.network, network))
    if ours != its:
        raise InputError(
            f"{uri} has a {teacher.family.network} of another architecture than the teacher's; give one that came from "
            "it"
        )
    ours, its = (read_config(each, "scheduler").get("prediction_type", "epsilon") for each in (teacher.folder, folder))
    if ours != its:
        raise InputError(f"{uri} predicts {its}, but the teacher {ours}; give a student that came from this teacher")
    return network, sha256 or folder_digest(folder)


def require_both(recipe: Recipe, real_images: Path | None) -> None:
    """Check that real images are given to a recipe with an adversarial term, and to no other.

    Raises:
        InputError: one is there without the other.
    """
    if real_images is None and recipe.adversarial:
        raise InputError(
            "the recipe's adversarial term needs real images, and none are given; give --real-images, the folder that "
            "`sidlsg images encode` wrote, or a recipe without adversarial"
        )
    if real_images is not None and not recipe.adversarial:
        raise InputError(
            f"{real_images} are real images, which the recipe does not use; take one with an adversarial term, such as "
            "tiny_real, or set adversarial"
        )


def real_images_digest(folder: Path | None) -> str:
    """SHA-256 of the latents and captions of a RealImageSet; empty for none."""
    return "" if folder is None else RealImageSet.load(folder).content_sha256


def open_real_images(
    folder: Path | None, teacher: Teacher, text_states: str, device: torch.device
) -> RealImages | None:
    """The images of a RealImageSet with their captions' text embeddings; None for no folder.

    Raises:
        InputError: the set is of another teacher, or cannot be read.
    """
    if folder is None:
        return None
    latents = LatentReader(folder, vae_digest(teacher.folder), teacher.latent_shape, device)
    captions, embeddings = folder / RealImageSet.CAPTIONS, folder / RealImageSet.EMBEDDINGS
    encode = open_embeddings(
        embeddings if embeddings.is_dir() else None,
        PromptSet.load(captions),
        lambda: read_prompts(captions),
        teacher,
        text_states,
        device,
    )
    return RealImages(count=latents.count, latents=latents, encode=encode)
