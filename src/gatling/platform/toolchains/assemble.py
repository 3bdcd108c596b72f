"""One toolchain from the parts: an Elixir and an OTP, found in what was unpacked.

OTP's archives hold scripts with a place for the directory in which they are installed, which a
shell script of theirs fills in. Nothing of an archive is run here. `erl` finds its directory by
itself, so that a toolchain can be renamed into its place.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gatling.errors import InvalidInput
from gatling.project.toolchains import Version, version
from gatling.releases.safe_copy import leads_out

if TYPE_CHECKING:
    from collections.abc import Sequence

ELIXIR_APP = Path("lib/elixir/ebin/elixir.app")
MAX_TEXT = 65536
"""Bytes of a file that are read for a version; the true ones have a tenth of that."""
_ELIXIR = ("elixir", "elixirc", "iex", "mix")
_OTP = ("erl", "erlc", "escript", "dialyzer", "typer", "ct_run", "erl_call", "epmd", "run_erl",
        "to_erl")  # fmt: skip
_ERL = """\
#!/bin/sh
# Written by Gatling, so that the directory can be moved.
ROOTDIR=$(readlink -f "$0")
ROOTDIR=${{ROOTDIR%/{place}}}
BINDIR=$ROOTDIR/{erts}/bin
EMU=beam
PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec "$BINDIR/erlexec" "$@"
"""


def elixir_version(root: Path) -> Version | None:
    """The version of the Elixir in a directory; None when there is none."""
    try:
        text = _beginning(root / ELIXIR_APP)
    except OSError:
        return None
    match = re.search(r'\{\s*vsn\s*,\s*"([^"]{1,40})"', text)
    return version(match[1].partition("+")[0]) if match else None


def _beginning(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(MAX_TEXT).decode("utf-8", "replace")


def otp_version(root: Path) -> Version | None:
    """The version of the OTP in a directory; None when there is none."""
    found = []
    for file in root.glob("releases/*/OTP_VERSION"):
        try:
            # `27.3.4**` is one with patches of the distribution
            found.append(version(_beginning(file).strip().rstrip("*")))
        except OSError:
            continue
    known = sorted(filter(None, found), key=lambda each: each.order)
    return known[-1] if known and _erts(root) else None


def find(directories: Sequence[Path]) -> tuple[Path, Path]:
    """The directories of Elixir and of OTP among some, or right below; raises InvalidInput.

    A directory whose bin/elixir and bin/erl are links counts for those that they lead to.
    """
    elixir = otp = None
    for directory in directories:
        below = [each for each in (directory, *sorted(directory.iterdir())) if each.is_dir()]
        programs = ((directory / "bin" / name).resolve() for name in ("elixir", "erl"))
        for each in (*below, *(program.parents[1] for program in programs)):
            if elixir is None and elixir_version(each) is not None:
                elixir = each
            if otp is None and otp_version(each) is not None:
                otp = each
    missing = [what for what, at in (("Elixir", elixir), ("OTP", otp)) if at is None]
    if elixir is None or otp is None:
        raise InvalidInput(
            f"There is no {' and no '.join(missing)} in {', '.join(str(d) for d in directories)}.",
            hint="A toolchain has both: bin/elixir with lib/elixir, and bin/erl with erts-… and"
            " releases.",
        )
    return elixir, otp


def finish(tree: Path) -> tuple[Version, Version]:
    """Make the toolchain of tree/elixir and tree/erlang ready to use; its versions.

    Raises InvalidInput for parts that are not whole, and for a link that leads out of the tree.
    Those of an archive stayed within it, but its parts are elsewhere now.
    """
    _stay_within(tree)
    elixir, otp = elixir_version(tree / "elixir"), otp_version(tree / "erlang")
    erts = _erts(tree / "erlang")
    if elixir is None or otp is None or erts is None:
        raise InvalidInput("The toolchain is not whole.")
    _finish_otp(tree / "erlang", erts)
    programs = tree / "bin"
    programs.mkdir()
    for part, names in (("elixir", _ELIXIR), ("erlang", _OTP)):
        for name in names:
            program = tree / part / "bin" / name
            if program.is_file():
                _let_run(program)
                (programs / name).symlink_to(f"../{part}/bin/{name}")
    for needed in ("elixir", "mix", "erl"):
        if not (programs / needed).exists():
            raise InvalidInput(f"The toolchain has no bin/{needed}.")
    return elixir, otp


def _erts(root: Path) -> str | None:
    found = sorted(each.name for each in root.glob("erts-*") if (each / "bin/erlexec").is_file())
    return found[-1] if found else None


def _finish_otp(root: Path, erts: str) -> None:
    """Do what OTP's own script `Install -minimal` does, without running it."""
    (root / "bin").mkdir(exist_ok=True)
    for program in (root / erts / "bin").iterdir():
        if program.is_file() and program.suffix != ".src":
            _let_run(program)
    for file, place in ((root / "bin/erl", "bin/erl"),
                        (root / erts / "bin/erl", f"{erts}/bin/erl")):  # fmt: skip
        file.unlink(missing_ok=True)
        file.write_text(_ERL.format(place=place, erts=erts))
        file.chmod(0o755)
    for name in _OTP:
        program = root / "bin" / name
        if not program.exists() and (root / erts / "bin" / name).is_file():
            program.unlink(missing_ok=True)
            program.symlink_to(f"../{erts}/bin/{name}")
    for boot in sorted(root.glob("releases/*/*.boot")):
        target = root / "bin" / boot.name
        if not target.exists():
            _copy(boot, target)
    start = root / "bin/start.boot"
    if not start.exists():
        _copy(root / "bin/start_clean.boot", start)
    if not os.access(root / erts / "bin/erlexec", os.X_OK):
        raise InvalidInput("OTP's erlexec cannot be run.")


def _stay_within(tree: Path) -> None:
    """Raise InvalidInput if a link leads out of a tree: then nothing that follows links does."""
    for at, directories, names in os.walk(tree):
        where = Path(at).relative_to(tree).parts
        for path in (Path(at, name) for name in (*directories, *names)):
            if path.is_symlink() and leads_out(str(path.readlink()), where):
                raise InvalidInput(
                    f"The toolchain has a link that leads out of it: {path.relative_to(tree)}.",
                    hint="Nothing was installed.",
                )


def _let_run(program: Path) -> None:
    """Make a file executable; what a link leads to is a file with a mode of its own."""
    if not program.is_symlink():
        program.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # a link to nothing, through which the copy would be written
    shutil.copyfile(source, target)
