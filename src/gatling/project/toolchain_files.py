"""The versions that a project's own files ask for. They are read as text: nothing of it is run.

The files are those of asdf, mise and Heroku's buildpack; build/priv/toolchain.ex checks the same
ones in the build, and mix itself has the last word on `elixir:`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gatling.errors import GatlingError
from gatling.project import manifest
from gatling.project.own_files import own_file
from gatling.project.toolchains import Asked, Requirement, Version, requirement, version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MISE = ("mise.toml", ".mise.toml", "mise/config.toml", ".mise/config.toml", ".config/mise.toml")
FILES = (".tool-versions", *MISE, "elixir_buildpack.config")
"""The files in which versions are looked for, in this order; the first that names one counts."""
TOOLS = ("elixir", "erlang")
MAX_BYTES = 65536
MAX_VERSION = 100
"""Characters of a version that are looked at."""
_OTP_SUFFIX = re.compile(r"-otp-([0-9]+)\Z")
_PREFIX = re.compile(r"v?[0-9]+(?:\.[0-9]+)*(?:-(?:rc|dev)[.0-9]*)?")
_REQUIREMENT = re.compile(r'\belixir:[ \t]*+"([^"]{1,100})"')
_ASSIGNMENT = re.compile(r"""(?m)^[ \t]*+(elixir|erlang)_version=["']?([^"'\s#]+)""")


def read(project: Path) -> Asked:
    """The versions that the project in a directory asks for.

    A link, or a file that cannot be read as text, asks for nothing.
    """
    elixir = elixir_file = otp = otp_file = None
    for file in FILES:
        text = _text(project, file)
        if text is None:
            continue
        named = _named(text, file)
        if elixir is None:
            elixir = _first(named.get("elixir", ()))
            elixir_file = file if elixir else None
        if otp is None:
            otp = _first(named.get("erlang", ()))
            otp_file = file if otp else None
    return Asked(elixir, elixir_file or "", otp, otp_file or "", _of_mix(project))


def _of_mix(project: Path) -> Requirement | None:
    text = _text(project, "mix.exs")
    for line in text.splitlines() if text else ():
        match = _REQUIREMENT.search(line.partition("#")[0])
        if match:
            return requirement(match[1])
    return None


def _text(project: Path, file: str) -> str | None:
    try:
        path = project / file
        if any(each.is_symlink() for each in path.parents if each.is_relative_to(project)):
            return None
        raw = own_file(path, MAX_BYTES)
    except (GatlingError, OSError):
        return None
    return None if raw is None or len(raw) > MAX_BYTES else raw.decode("utf-8", "replace")


def _first(named: Sequence[str]) -> Version | None:
    for said in named:
        # `1.18.4-otp-27` is a build of Elixir for OTP 27: any OTP from that on runs it
        match = _PREFIX.match(_OTP_SUFFIX.sub("", said[:MAX_VERSION]))
        found = version(match[0]) if match else None
        if found is not None:
            return found
    return None


def _named(text: str, file: str) -> dict[str, list[str]]:
    """The versions that a file names for each tool."""
    if file == ".tool-versions":
        lines = (line.partition("#")[0].split()[:2] for line in text.splitlines())
        return _by_tool(words for words in lines if len(words) == 2)
    if file == "elixir_buildpack.config":  # a file that a shell sources
        return _by_tool(_ASSIGNMENT.findall(text))
    return _of_mise(text)


def _by_tool(pairs: Iterable[Sequence[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for tool, said in pairs:
        found.setdefault(tool, []).append(said)
    return found


def _of_mise(text: str) -> dict[str, list[str]]:
    """A text, a list of them, or a table with `version`; the first one counts."""
    try:
        tools = manifest.toml(text).get("tools")
    except (ValueError, RecursionError, MemoryError):
        return {}
    if not isinstance(tools, dict):
        return {}
    return {tool: [said] for tool in TOOLS if (said := _of_tool(tools.get(tool)))}


def _of_tool(said: object) -> str:
    if isinstance(said, list):
        said = said[0] if said else None
    if isinstance(said, dict):
        said = said.get("version")
    return said if isinstance(said, str) else ""
