"""A directory in which one program at a time makes a copy of a cluster."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gatling import files
from gatling.errors import DiskFull, InvalidInput, is_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def alone(directory: Path, lock: str, busy: str, clean: Callable[[], None]) -> Iterator[None]:
    """Make the directory, and have `clean` remove it afterwards, with what the copy has left.

    `clean` also runs first, for a program that was killed. `lock` is the name of a file beside the
    directory, which is locked until the end. Raises InvalidInput with the text `busy` if another
    program has locked it, and DiskFull.
    """
    place = directory.parent
    place.mkdir(mode=0o700, exist_ok=True)
    with files.open_lock(place / lock) as file:
        if not files.try_lock(file):
            raise InvalidInput(busy)
        clean()
        directory.mkdir(mode=0o700)
        try:
            yield
        except OSError as error:
            if is_full(error):
                raise DiskFull("The disk is full.") from None
            raise
        finally:
            clean()
