"""The program that gets a toolchain: download or copy, check, unpack, put together.

It works on what strangers made. So it runs as a user who owns nothing, in a sandbox that can write
in one directory only (platform/server/helper/toolchains.py), or on an embedded home as a process of
its own. The directory then has `tree`, or nothing that anybody uses.

    fetch.py DIRECTORY ORDER        ORDER is an `Order` as JSON

It prints lines for people, and one that begins with a NUL byte: its result, or its error, as JSON.
"""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file, by the Python of the host
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from gatling.errors import GatlingError, InvalidInput, is_full
from gatling.platform.toolchains import assemble, mirror, unpack
from gatling.platform.toolchains.order import MARK, Order, order
from gatling.project import toolchains


def get(directory: Path, wanted: Order) -> str:
    """Put the toolchain into `directory/tree`; its name. Raises GatlingError, OSError.

    For one that is present there is no tree.
    """
    if wanted.paths:
        parts = [_given(Path(path), directory / f"part{n}", wanted.sha256)
                 for n, path in enumerate(wanted.paths)]  # fmt: skip
        own = [part.is_relative_to(directory) for part in parts]
    else:
        elixir, otp = mirror.pair(wanted.mirror, toolchains.parse(wanted.wanted))
        name = toolchains.name(elixir.version, otp.version)
        if name in wanted.present:
            return name
        parts, own = [], [True, True]
        for number, build in enumerate((elixir, otp)):
            _say(f"Downloading {build.what} from {wanted.mirror}")
            archive = directory / Path(build.path).name
            mirror.download(wanted.mirror, build, archive)
            parts.append(directory / f"part{number}")
            unpack.unpack(archive, parts[-1])
            archive.unlink()
    tree = directory / "tree"
    tree.mkdir()
    for part, target in zip(assemble.find(parts), ("elixir", "erlang"), strict=True):
        if all(own) and part.is_relative_to(directory):
            part.rename(tree / target)
        else:
            _say(f"Copying {part}")
            unpack.copy_in(part, tree / target)
    found = assemble.finish(tree)
    if wanted.wanted and not toolchains.parse(wanted.wanted).fits(*found):
        raise InvalidInput(
            f"That is Elixir {found[0]} with OTP {found[1]}, not {wanted.wanted}.",
            hint="Nothing was installed.",
        )
    return toolchains.name(*found)


def _given(path: Path, part: Path, sha256: str) -> Path:
    """A directory, or an archive that is unpacked."""
    kind = _kind(path)
    if kind == stat.S_IFDIR:
        if sha256:
            raise InvalidInput(f"A checksum is for an archive, and {path} is a directory.")
        return path
    if kind != stat.S_IFREG:
        raise InvalidInput(
            f"{path} is not there, or cannot be read.",
            hint="On a server other users than root must be able to read it. /root and /home are"
            " not visible to the program that reads it.",
        )
    _say(f"Unpacking {path}")
    if sha256:
        copies = part.with_name(f"{part.name}.copy")
        copies.mkdir()
        copy = copies / path.name
        mirror.take(path, copy, sha256)
        unpack.unpack(copy, part)
        copy.unlink()
    else:
        unpack.unpack(path, part)
    return part


def _kind(path: Path) -> int:
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _result(**values: Any) -> None:
    _say(MARK + json.dumps(values))


def main() -> int:
    """Do what the command line says."""
    os.umask(0o022)
    try:
        directory, text = Path(sys.argv[1]), sys.argv[2]
        _result(name=get(directory, order(text)))
    except GatlingError as error:
        _result(what=error.what, hint=error.hint, code=error.code)
    except OSError as error:
        if is_full(error):
            _result(what="No space is left on the disk.", code="disk-full",
                    hint="Nothing was installed. `gatling toolchain list` shows what can be"
                    " removed.")  # fmt: skip
        else:
            place = f"{error.filename}: " if error.filename else ""
            _result(what=f"{place}{error.strerror or error}.", code="command-failed", hint="")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
