"""The paths of the programs that apps and builds run on a server: elixir, mix, git, npm."""

from __future__ import annotations

from pathlib import Path

TOOLCHAINS = Path("/etc/gatling/toolchains")
"""Directories, or links, named after an app or `default`, whose bin/ goes first: root's word."""
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
INSTALLED_TOOLCHAINS = Path("/opt/gatling-toolchains")
"""The toolchains that `gatling toolchain install` has put on a server: root's, for all to read."""
