"""Files for root and nginx: complete on the disk before they take the place of others."""

import os
from pathlib import Path


def write(file: Path, text: str, mode: int) -> None:
    """Write a file so that a reader sees the old or the new text, also after a power cut."""
    new = file.with_name(f".{file.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as opened:
        os.fchmod(opened.fileno(), mode)
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    new.rename(file)
    sync(file.parent)


def sync(directory: Path) -> None:
    """Have the names in a directory on the disk."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
