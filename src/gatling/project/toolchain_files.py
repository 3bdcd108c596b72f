"""The versions that a project's own files ask for. They are read as text: nothing of it is run.

The files are those of asdf, mise and Heroku's buildpack; build/priv/toolchain.ex checks the same
ones in the build, and mix itself has the last word on `elixir:`.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

from gatling.errors import GatlingError
from gatling.project.manifest import own_file
from gatling.project.toolchains import Asked, Requirement, Version, requirement, version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MISE = ("mise.toml", ".mise.toml", "mise/config.toml", ".mise/config.toml", ".config/mise.toml")
FILES = (".tool-versions", *MISE, "elixir_buildpack.config")
"""The files in which versions are looked for, in this order; the first that names one counts."""
MAX_BYTES = 65536
_OTP_SUFFIX = re.compile(r"-otp-([0-9]+)\Z")
_PREFIX = re.compile(r"v?[0-9]+(?:\.[0-9]+)*(?:-(?:rc|dev)[.0-9]*)?")
_REQUIREMENT = re.compile(r"""(?m)^[^#\n]*?\belixir:\s*"([^"\n#]{1,100})\"""")


def read(project: Path) -> Asked:
    """The versions that the project in a directory asks for.

    A link, or a file that cannot be read as text, asks for nothing.
    """
    elixir = elixir_file = otp = otp_file = None
    for file in FILES:
        text = _text(project, file)
        if text is None:
            continue
        if elixir is None:
            elixir = _first(text, file, "elixir")
            elixir_file = file if elixir else None
        if otp is None:
            otp = _first(text, file, "erlang")
            otp_file = file if otp else None
    return Asked(elixir, elixir_file or "", otp, otp_file or "", _of_mix(project))


def _of_mix(project: Path) -> Requirement | None:
    text = _text(project, "mix.exs")
    match = _REQUIREMENT.search(text) if text else None
    return requirement(match[1]) if match else None


def _text(project: Path, file: str) -> str | None:
    try:
        path = project / file
        if any(each.is_symlink() for each in path.parents if each.is_relative_to(project)):
            return None
        raw = own_file(path, MAX_BYTES)
    except (GatlingError, OSError):
        return None
    return None if raw is None or len(raw) > MAX_BYTES else raw.decode("utf-8", "replace")


def _first(text: str, file: str, tool: str) -> Version | None:
    for said in _named(text, file, tool):
        # `1.18.4-otp-27` is a build of Elixir for OTP 27: any OTP from that on runs it
        match = _PREFIX.match(_OTP_SUFFIX.sub("", said))
        found = version(match[0]) if match else None
        if found is not None:
            return found
    return None


def _named(text: str, file: str, tool: str) -> Iterator[str]:
    if file == ".tool-versions":
        for line in text.splitlines():
            words = line.partition("#")[0].split()
            if len(words) > 1 and words[0] == tool:
                yield words[1]
    elif file == "elixir_buildpack.config":  # a file that a shell sources
        yield from re.findall(rf"""(?m)^\s*{tool}_version=["']?([^"'\s#]+)""", text)
    else:
        yield from _of_mise(text, tool)


def _of_mise(text: str, tool: str) -> Iterator[str]:
    """A text, a list of them, or a table with `version`; the first one counts."""
    try:
        tools = tomllib.loads(text).get("tools")
    except (ValueError, RecursionError):
        return
    said = tools.get(tool) if isinstance(tools, dict) else None
    if isinstance(said, list):
        said = said[0] if said else None
    if isinstance(said, dict):
        said = said.get("version")
    if isinstance(said, str):
        yield said
