"""Images as HTML: each inside the page itself, so that the server has no files to serve."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from math import ceil, sqrt

from PIL import Image

from sidlsg.runtime.formatting import duration
from sidlsg.studio.generator import Sample
from sidlsg.teacher.images import Images

SIDE = 512
"""Pixels that a row of small images is enlarged to."""
LARGE = 256
"""Images with this side or more are shown as they are."""


def pictures(title: str, sample: Sample, seeds: Sequence[int], note: str) -> str:
    """A generator's images below its title, the time and a note; small images are enlarged."""
    columns = ceil(sqrt(len(seeds)))
    images = "".join(
        f'<img src="{source}" alt="seed {seed}" title="seed {seed}">'
        for source, seed in zip(_sources(sample.images, columns), seeds, strict=True)
    )
    return (
        f'<h2>{escape(title)}</h2><p class="time"><strong>{milliseconds(sample.seconds)}</strong> {escape(note)}</p>'
        f'<div class="images" style="grid-template-columns: repeat({columns}, 1fr)">{images}</div>'
    )


def message(text: str, title: str = "") -> str:
    """A message in place of images."""
    heading = f"<h2>{escape(title)}</h2>" if title else ""
    return f'{heading}<p class="message" role="alert">{escape(text)}</p>' if text else heading


def milliseconds(seconds: float) -> str:
    """A time of sampling, such as `7.4 ms`, `84 ms` or `3.4 s`."""
    if seconds >= 1:
        return duration(seconds)
    return f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"


def _sources(images: Images, columns: int) -> list[str]:
    side = images.shape[1]
    times = 1 if side >= LARGE else max(1, SIDE // (side * columns))
    return [_data_uri(Image.fromarray(image), times) for image in images]


def _data_uri(image: Image.Image, times: int) -> str:
    buffer = io.BytesIO()
    large = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    large.save(buffer, "PNG", compress_level=1)  # while somebody types, and on one machine, speed matters more
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
