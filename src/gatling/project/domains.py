"""The file `domains` in a project's root: the names under which the app is reached.

Gatling 1 reads them separated by blanks, lines or commas.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gatling import names
from gatling.errors import InvalidInput, InvalidManifest
from gatling.project.own_files import own_file

if TYPE_CHECKING:
    from pathlib import Path

NAME = "domains"
MAX_BYTES = 16384


def read(directory: Path) -> tuple[str, ...]:
    """The domains in the directory's file, in its order; raises InvalidManifest."""
    raw = own_file(directory / NAME, MAX_BYTES)
    return () if raw is None else parse(raw)


def parse(raw: bytes) -> tuple[str, ...]:
    """The domains in the text of such a file; raises InvalidManifest with the line."""
    if len(raw) > MAX_BYTES:
        raise InvalidManifest(f"{NAME} is larger than {MAX_BYTES >> 10} KB.", hint=_HINT)
    found: dict[str, None] = {}
    for number, line in enumerate(raw.decode(errors="replace").split("\n"), 1):
        for word in re.split(r"[,\s]+", line.partition("#")[0].strip()):
            try:
                found |= {names.domain(word): None} if word else {}
            except InvalidInput as error:
                what = f"{NAME}, line {number}: {error.what}"
                raise InvalidManifest(what, hint=error.hint) from None
    return tuple(found)


_HINT = "Write one domain on each line."
