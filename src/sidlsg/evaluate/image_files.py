"""Pictures in a folder, read strictly: what is scored is what was meant, or nothing is scored."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from sidlsg.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
"""What is read, whatever a file is called: other decoders, such as that of PostScript, start other programs."""
MOST_PIXELS = 4096 * 4096
"""A small file can claim more than memory holds, and several are read at once."""
_GREY = {"L", "LA", "1", "I", "I;16", "F"}


def image_files(folder: Path, count: int | None = None) -> list[Path]:
    """A folder's pictures, by name.

    Args:
        folder: what is not a picture in it, such as a record, is left alone; folders in it are not searched.
        count: how many there must be; None for at least one.

    Raises:
        InputError: there is no such folder, or it holds another number of pictures.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give a folder of {', '.join(SUFFIXES)} files")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if count is not None and len(files) != count:
        raise InputError(f"{folder} holds {len(files):,} pictures, and the protocol takes {count:,}; nothing is scored")
    if not files:
        raise InputError(f"{folder} holds no picture ({', '.join(SUFFIXES)}); nothing is scored")
    return files


def read_rgb(path: Path, allow_grey: bool = False) -> Image.Image:
    """A picture in 8-bit RGB.

    Args:
        path: of a PNG or JPEG file.
        allow_grey: take a grey one as three equal channels, as protocols do with photographs of a reference.

    Raises:
        InputError: the file is missing, damaged, or of other colours.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"{path} has {image.width:,} × {image.height:,} pixels; allowed: {MOST_PIXELS:,} in all"
                )
            image.load()
    except FileNotFoundError as error:
        raise InputError(f"no such picture: {path}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "no PNG or JPEG" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(f"{path} cannot be read ({reason}); replace it, and score again") from error
    if image.mode == "RGB":
        return image
    if image.mode in _GREY:
        if allow_grey and image.mode == "L":
            return image.convert("RGB")
        raise InputError(f"{path} is grey (mode {image.mode}), and must be RGB; replace it, and score again")
    raise InputError(f"{path} has the mode {image.mode}, not 8-bit RGB; convert it as it is meant, and score again")
