"""A tiny safety checker with random weights, of the class that Stable Diffusion has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from diffusers.pipelines.stable_diffusion.safety_checker import cosine_distance
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil

from sidlsg.teacher.config import INDEX

CHECKER = ("safety_checker", "feature_extractor")
SIDE = 32


def add_safety_checker(folder: Path) -> None:
    """Give a pipeline's folder a safety checker, and the feature extractor that prepares its input."""
    torch.manual_seed(1)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = small | {"image_size": SIDE, "patch_size": 8}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config=small, projection_dim=8))
    checker.concept_embeds.data.normal_()
    checker.save_pretrained(folder / "safety_checker")
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder / "feature_extractor")
    index = json.loads((folder / INDEX).read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index["requires_safety_checker"] = True
    (folder / INDEX).unlink()  # it may be a hard link
    (folder / INDEX).write_text(json.dumps(index))


@torch.no_grad()
def likeness(pipeline: Any, picture: Image.Image) -> float:
    """How like the likest concept a picture is: what a checker compares with its concepts' weights."""
    checker = pipeline.safety_checker
    seen = pipeline.feature_extractor([picture], return_tensors="pt").pixel_values
    embedded = checker.visual_projection(checker.vision_model(seen)[1])
    return float(cosine_distance(embedded, checker.concept_embeds).max())
