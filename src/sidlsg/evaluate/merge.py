"""Statistics of parts of a set, merged to those of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sidlsg.evaluate.feature_files import Source, load_statistics, save_statistics
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_bytes


def merge_statistics(parts: Sequence[Path], output: Path) -> int:
    """Merge files of features or statistics into one file of statistics.

    Args:
        parts: in any order: the result's digest does not depend on it.
        output: the file to write.

    Returns:
        How many pictures they are of.

    Raises:
        InputError: a file cannot be read, is of another space or network than the first, or is given twice.
    """
    found = [(path, *load_statistics(path)) for path in parts]
    if not found:
        raise InputError("no file of features or statistics given; give one or more")
    (_, whole, first), *rest = found
    seen = {first.images_sha256}
    for path, statistics, source in rest:
        if (source.space, source.network_sha256) != (first.space, first.network_sha256):
            raise InputError(
                f"{path} is of {source.space} by {source.network_sha256[:16]}…, but {parts[0]} of {first.space} by "
                f"{first.network_sha256[:16]}…; merge files of one network and resizing"
            )
        if source.images_sha256 in seen:
            raise InputError(f"{path} is of pictures that another file is of as well; give each part once")
        seen.add(source.images_sha256)
        whole.merge(statistics)
    images = first.images_sha256 if len(seen) == 1 else sha256_bytes("\n".join(sorted(seen)).encode())
    source = Source(space=first.space, network_sha256=first.network_sha256, images_sha256=images)
    save_statistics(whole, source, output)
    return whole.count
