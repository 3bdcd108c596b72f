"""Gatling's code for nodes, compiled by a separate node: once for each Elixir and OTP.

A beam of one OTP may not load on another, so every build makes sure that there are beams of its own
toolchain (build/priv/build.exs), and releases find those by the versions they were built with. If
there are none, after an update of Gatling, a release compiles them itself (beam/compiler.py).
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import names

if TYPE_CHECKING:
    from gatling.paths import AppPaths
    from gatling.state.releases import Release

MODULES = (
    "gatling_text",
    "gatling_guard",
    "gatling_calls",
    "gatling_doors",
    "gatling_application",
    "gatling_files",
    "gatling_script",
    "gatling_release",
    "gatling_disasm",
    "gatling_reach",
    "gatling_asks",
    "gatling_setup",
    "gatling_pack",
    "gatling_tree",
    "gatling_why",
    "gatling_children",
    "gatling_errors",
    "gatling_processes",
    "gatling_sys",
    "gatling_watch",
    "gatling_code",
    "gatling_config",
    "gatling_holds",
    "gatling_rendering",
    "gatling_pages",
    "gatling_agent",
    "gatling_freeze",
    "gatling_added",
    "gatling_beside",
    "gatling_together",
    "gatling_swap",
    "gatling_delivery",
)
"""The modules that deployments load into a node, in an order in which they can be loaded."""

SIGHT = ("gatling_numbers", "gatling_telemetry", "gatling_drain")
"""Those that `gatling stats` and its like load. They call none of the others."""

SOURCES = Path(__file__).parent / "priv"
"""The directory of their sources."""
_DIRECTORIES = (SOURCES, SOURCES.parents[1] / "build" / "priv")


def digest() -> str:
    """Names this version of everything that is compiled for nodes and builds."""
    return _digest(*(directory.stat().st_mtime_ns for directory in _DIRECTORIES))


@functools.cache
def _digest(*_changed: int) -> str:
    """The same, read again when a file was added or replaced: by an update, in a server say."""
    summed = hashlib.sha256()
    for directory in _DIRECTORIES:
        for file in sorted(directory.iterdir()):
            summed.update(file.name.encode() + b"\0" + file.read_bytes())
    return summed.hexdigest()[:16]


def cache(paths: AppPaths) -> Path:
    """The directory with one directory of beams for each toolchain."""
    return paths.cache / f"beam-{digest()}"


def beams(paths: AppPaths, release: Release) -> Path:
    """Return the directory of the beams for a release's nodes; they may not be compiled yet.

    A build has more to compile and a directory of its own, so that it never finds one without.
    """
    tree = paths.release(release.number)
    erts = (tree / "releases" / "start_erl.data").read_text().split()[0]
    for part in filter(None, (release.elixir, release.otp, erts)):
        names.version(part)  # what the build or the release says is part of a path
    of_builds = cache(paths) / f"{release.elixir}-{release.otp.split('.')[0]}-{erts}"
    return of_builds if of_builds.is_dir() else of_builds.with_name(f"{of_builds.name}-nodes")
