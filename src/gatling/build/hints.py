"""Advice about a failed build, judged by the last output of mix, git and npm."""

from __future__ import annotations

from gatling.build.environment import COMMIT_VARIABLES
from gatling.errors import InvalidInput
from gatling.platform.programs import TOOLCHAINS
from gatling.project import toolchains

_UNREADABLE = ("Permission denied (publickey", "Host key verification failed",
               "Could not read from remote repository")  # fmt: skip
"""Messages of git and ssh about a repository that they may not read."""

_NO_HEX = ("Could not install Hex", "Could not install Rebar",
           "Package fetch failed and no cached copy available")  # fmt: skip
"""Messages of mix and Hex when they cannot reach hex.pm."""


_NO_DOWNLOAD = ("couldn't fetch http", "Couldn't fetch http", "npm error network",
                "npm ERR! network", "Could not resolve host", "getaddrinfo EAI_AGAIN",
                "getaddrinfo ENOTFOUND")  # fmt: skip
"""Messages of esbuild's and tailwind's packages, npm and git about a download that failed."""


def _missing(what: str) -> str:
    """The command that installs what the build has found missing."""
    if what == "npm":
        return (
            "On Debian or Ubuntu: apt install npm. Install another version in"
            f" {TOOLCHAINS}/default/bin."
        )
    try:
        wanted = toolchains.parse(what.removeprefix("toolchain "))
    except InvalidInput:
        return ""
    return f"An admin of the server can install it: `gatling toolchain install {wanted}`."


def hint(app: str, log: tuple[str, ...], missing: str = "") -> str:
    """Return a command for the user whose build of `app` failed with this output; may be empty.

    `missing` is the program that the build found missing, if any.
    """
    text = "\n".join(log)
    if "multiple releases" in text or ":default_release" in text:
        return f"Choose one: `gatling settings set {app} build.release=NAME`."
    if any(word in text for word in _UNREADABLE):
        return (
            "If the repository is private and the app has no deploy key, run `gatling deploy-key"
            f" create {app}`."
        )
    if missing:
        return _missing(missing)
    if "not a git repository" in text:
        return (
            "A build runs outside of any git repository. The variable"
            f" {COMMIT_VARIABLES[0]} holds the commit id:"
            f' System.get_env("{COMMIT_VARIABLES[0]}").'
        )
    return _network(app, text)


def _network(app: str, text: str) -> str:
    """Return advice about a download that failed; empty when none did."""
    # Hex goes on with what it has of its registry, if it has anything
    stale = "Failed to fetch record for" in text and "the package does not exist" not in text
    lost = stale and any(word in text for word in ("in lockfile", "No package with name"))
    if lost or any(word in text for word in _NO_HEX):
        return (
            "The build must reach hex.pm over HTTPS. To use a proxy or a mirror, run `gatling"
            f" config set {app} HTTPS_PROXY=URL` or `HEX_MIRROR=URL`, then push again."
        )
    if any(word in text for word in _NO_DOWNLOAD):
        return (
            "A download failed. Push again once the address above can be reached. To use a proxy,"
            f" run `gatling config set {app} HTTPS_PROXY=URL` first."
        )
    return ""
