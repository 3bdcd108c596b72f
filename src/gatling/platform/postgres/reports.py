"""The backups in a repository, as pgBackRest reports them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gatling import process
from gatling.errors import CommandFailed, GatlingError, InvalidInput
from gatling.platform.postgres import pgbackrest, repository

if TYPE_CHECKING:
    from gatling.platform.postgres.pgbackrest import Backup

SECONDS = 120.0
PATIENCE = "--io-timeout=10"
"""Somebody waits for the report: pgBackRest tries for a minute or more otherwise."""
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def report(directory: str, settings_file: str) -> list[Backup]:
    """All backups in a repository, the oldest first; raises CommandFailed."""
    remote = repository.load(settings_file)
    path = remote.options(directory).get("repo1-path", directory)
    if not remote.is_remote and not (Path(path) / "backup").is_dir():
        return []
    place = [PATIENCE] if remote.is_remote else [f"--repo1-path={path}"]
    argv = ["pgbackrest", "--config=/dev/null", *place, f"--lock-path={directory}/.lock",
            "--log-level-file=off", "--log-level-console=off", "--log-level-stderr=warn",
            "info", "--output=json"]  # fmt: skip
    env = ENVIRONMENT | remote.environment(directory)
    try:
        return pgbackrest.backups(process.output(argv, env=env, timeout=SECONDS))
    except GatlingError as error:
        said = repository.explained("\n".join(error.log), remote)
        if said is None:
            raise
        raise CommandFailed(said.what, hint=said.hint) from None


def check(directory: str, settings_file: str) -> None:
    """Find out whether a repository on another machine can be used with these settings.

    Raises MissingProgram and InvalidInput.
    """
    remote = repository.load(settings_file)
    said = process.output(["pgbackrest", "version"], env=ENVIRONMENT, timeout=SECONDS)
    found = pgbackrest.version(said)
    if remote.kind == repository.SFTP and found < pgbackrest.FIRST_WITH_SFTP:
        raise InvalidInput(
            f"pgBackRest {'.'.join(map(str, found))} has no SFTP.",
            hint="Debian 13 has a later version of it.",
        )
    Path(directory).mkdir(mode=0o700, exist_ok=True)
    try:
        report(directory, settings_file)
    except CommandFailed as error:
        raise InvalidInput(error.what, hint=error.hint) from None
