"""The Debian packages that a server needs, and how they are installed."""

from __future__ import annotations

import os
import shutil

from gatling import process, times
from gatling.errors import CommandFailed, MissingProgram
from gatling.host.machine import clean_environment

APT_SECONDS = 300
"""How long another apt-get is waited for."""
PACKAGES = {"git": "git", "nginx": "nginx-light", "elixir": "elixir", "sshd": "openssh-server",
            "curl": "curl", "openssl": "openssl", "nft": "nftables"}  # fmt: skip
"""Program → the package that has it."""
ERLANG = ("erlang-nox", "erlang-dev")
"""All of OTP but what draws windows: Debian's `elixir` brings a part only.

A generated Phoenix project needs xmerl to compile (for Swoosh), others os_mon, mnesia or ssh.
"""


def packages() -> list[str]:
    """Debian packages that are needed and not there; what lies elsewhere on PATH counts as well."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/bin"
    found = [package for name, package in PACKAGES.items() if not shutil.which(name, path=path)]
    erl = shutil.which("erl", path=path)
    if erl is None or erl == "/usr/bin/erl":
        found += [name for name in ERLANG if not _installed(name)]
    return found


def _installed(package: str) -> bool:
    asked = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", package]
    done = process.run(asked, timeout=30, check=False)
    return done.status == 0 and done.text == "installed"


def apt(missing: list[str]) -> None:
    """Install packages; raises MissingProgram with the error that apt-get printed."""
    env = clean_environment() | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        update_lists(env)
        process.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends",
             "-o", f"DPkg::Lock::Timeout={APT_SECONDS}", *missing],
            timeout=1800, env=env,
        )  # fmt: skip
    except CommandFailed as error:
        raise MissingProgram(f"apt-get: {error.what}", log=error.log) from None


def update_lists(env: dict[str, str]) -> None:
    """`apt-get update`, which does not wait by itself while another one is at work.

    A new machine's first updates, say. Raises CommandFailed.
    """
    for last in times.looks(APT_SECONDS, 1):
        try:
            process.run(["apt-get", "update", "-qq"], timeout=600, env=env)
        except CommandFailed as error:
            # every error of apt-get has the status 100; LC_ALL=C, so its text is this one
            locked = any("Could not get lock" in line for line in error.log)
            if not locked or last:
                raise
        else:
            return
