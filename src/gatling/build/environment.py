"""The environment of builds: the app's config and what Gatling provides, not the pusher's shell."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from gatling import process
from gatling.platform.programs import program_path
from gatling.platform.server import units
from gatling.project import deploy_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatling.paths import AppPaths

UTF_8 = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
"""The BEAM takes the encoding of file names and of its output from these."""

COMMIT_VARIABLES = ("GATLING_COMMIT", "SOURCE_VERSION")
"""Both hold the full commit id while a build runs. The second name is Heroku's."""

_AMBIENT = re.compile(
    "HOME|USER|LOGNAME|SHELL|TMPDIR|TZ|SSH_AUTH_SOCK"
    # how programs reach the network
    "|(http|https|ftp|all|no)_proxy|(HTTP|HTTPS|FTP|ALL|NO)_PROXY"
    "|SSL_CERT_FILE|SSL_CERT_DIR|CURL_CA_BUNDLE|NODE_EXTRA_CA_CERTS"
    # how Hex and npm are configured, and where version managers keep their tools
    "|(HEX|NPM_CONFIG|npm_config|XDG|ASDF|MISE|NIX)_[A-Za-z0-9_]+|CARGO_HOME|RUSTUP_HOME"
)
"""The variables of the pusher's shell that a build sees on an embedded home.

They say where tools and caches are, and how to reach the network. No other variable is passed on,
because a release would otherwise depend on the shell that pushed it.
"""


def build_environment(
    paths: AppPaths, config: Mapping[str, str], commit: str = ""
) -> dict[str, str]:
    """The environment of a build: the user's tools, the app's deploy key, the app's config.

    git finds no repository above the source, so that a `mix.exs` that runs git cannot read the
    commit of an unrelated one.
    """
    own = (
        deploy_key.environment(paths)
        | {"MIX_ENV": "prod"}
        | dict.fromkeys(COMMIT_VARIABLES, commit)
    )
    environment = ambient_environment(paths) | own | dict(config)
    environment.pop("RELEASE_COOKIE", None)
    return environment | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CEILING_DIRECTORIES": str(paths.source.parent),
        "GATLING_CONFIG": " ".join(sorted(set(config) - {"RELEASE_COOKIE"})),
        "CI": "true",
    }


def ambient_environment(paths: AppPaths) -> dict[str, str]:
    """The part of a build's environment that does not depend on the app.

    On a server, builds run as the app's user with a home in the build directory.
    """
    if paths.server:
        return UTF_8 | {"HOME": str(paths.build), "USER": units.user(paths.name),
                        "PATH": program_path(paths)}  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if _AMBIENT.fullmatch(name)}
    return kept | UTF_8 | {"PATH": program_path(paths)}


def program_in(paths: AppPaths, argv: Sequence[str]) -> list[str]:
    """A command line with its program looked up on the PATH of builds; raises MissingProgram."""
    found = shutil.which(argv[0], path=program_path(paths))
    if found is None:
        raise process.missing(argv[0])
    return [found, *argv[1:]]
