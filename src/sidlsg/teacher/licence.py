"""A teacher's card and its texts of licence and use restrictions, which its students carry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sidlsg.storage.records import FileRef, Licence, file_ref
from sidlsg.teacher.folder import CARD, is_about_use

FOLDER = "teacher"
"""The folder in a student's folder with its teacher's card and licence texts."""
_MOST_BYTES = 1 << 20
"""The maximum size of a licence text."""


def licence_files(folder: Path) -> list[Path]:
    """A model folder's card, and its texts of licence and use restrictions."""
    found = [path for path in folder.iterdir() if is_about_use(path.name)]
    return sorted(path for path in found if path.is_file() and path.stat().st_size <= _MOST_BYTES)


def copy_licence(teacher: Path, student: Path) -> Licence:
    """Copy a teacher's card and licence texts into its student's folder."""
    files: list[FileRef] = []
    for path in licence_files(teacher):
        target = student / FOLDER / path.name
        target.parent.mkdir(exist_ok=True)
        files.append(file_ref(Path(shutil.copyfile(path, target)), student))
    named = _named(teacher / CARD)
    return Licence(
        name=_text(named.get("license_name") if named.get("license") == "other" else named.get("license")),
        link=_text(named.get("license_link")),
        files=tuple(files),
    )


def _named(card: Path) -> dict[str, Any]:
    """The metadata of a model card; empty where it cannot be read."""
    # These imports take a second.
    import yaml
    from huggingface_hub import ModelCard

    try:
        text = card.read_text(encoding="utf-8")
        # The library warns of a card without metadata.
        return dict(vars(ModelCard(text, ignore_metadata_errors=True).data)) if text.startswith("---") else {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _text(value: Any) -> str:
    # Some cards give a list.
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
