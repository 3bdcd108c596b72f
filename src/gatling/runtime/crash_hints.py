"""Advice about a release that does not boot, by its last output. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HINTS = (
    (
        (
            r"environment variable \"?DATABASE_URL\"? is missing"
            r"|could not fetch environment variable \"DATABASE_URL\""
            r"|\(System\.EnvError\).*?\"DATABASE_URL\""
            r"|System\.EnvError'.*?env=><<\"DATABASE_URL\">>"
        ),
        (
            "`gatling db create {app}` creates a database and sets the variable. For a database"
            " elsewhere: `gatling config set {app} DATABASE_URL=ecto://…`."
        ),
    ),
    (
        (
            r"environment variable \"?(?P<one>\w+)\"? is missing"
            r"|could not fetch environment variable \"(?P<two>\w+)\""
            r"|\(System\.EnvError\).*?\"(?P<three>\w+)\""
            # as the BEAM prints it when the release fails before its logger runs
            r"|System\.EnvError'.*?env=><<\"(?P<four>\w+)\">>"
        ),
        "Set the variable: `gatling config set {app} {one}=VALUE`.",
    ),
    (
        r"in use by another Erlang node|-(?:name|sname|setcookie) .*(?:twice|multiple)",
        (
            "rel/env.sh.eex and vm.args must not name the node or replace ERL_AFLAGS:"
            " Gatling sets both for each instance."
        ),
    ),
    (
        r"(?i)eaddrinuse|address already in use",
        (
            "Something listens on that port already, perhaps the live instance: two run at a time"
            " for a while. Derive each port from PORT, or let only one run:"
            " `gatling settings set {app} deploy.second_instance=never`."
        ),
    ),
    (
        r"(?i)not_closed|needs_repair|not_a_dets_file|:dets\.|\bdets:",
        (
            "Only one node can use a DETS file, and one that was killed leaves it to be repaired:"
            " `gatling settings set {app} deploy.second_instance=never` lets only one run."
        ),
    ),
    (
        r"\bmnesia\b|\bMnesia\b",
        (
            "Mnesia's tables belong to the node that created them; under Gatling its name is"
            " RELEASE@127.0.0.1. Only one node can use them:"
            " `gatling settings set {app} deploy.second_instance=never` lets only one run."
        ),
    ),
    (
        r"(?i)lock file: .*(?:unavailable|held)|IO error: (?:while )?lock|database is locked",
        (
            "The live instance has the database open, and only one can:"
            " `gatling settings set {app} deploy.second_instance=never`."
        ),
    ),
    (
        (
            r"undefined_table|undefined_column|relation \S+ does not exist|no such (?:table|column)"
            r"|Ecto\.MigrationError|PendingMigrationError"
        ),
        (
            "The database lacks what the release expects: `gatling run {app} migrate`, or see the"
            " setting migrate.command."
        ),
    ),
    (
        r"DBConnection\.ConnectionError|econnrefused|nxdomain|connection refused",
        (
            "The app cannot reach a server that it needs, such as its database. `gatling config"
            " list {app}` shows its variables."
        ),
    ),
    (
        r"module (?P<one>:?[\w.]+) is not available",
        (
            "The release has no module {one}. Check in mix.exs that its dependency is available in"
            " prod, or that its OTP application is listed in extra_applications."
        ),
    ),
    (
        r"GLIBC_|cannot open shared object file|Exec format error|invalid ELF header",
        (
            "Native code of the release was built for another machine, or needs a library that is"
            " not installed here."
        ),
    ),
    (
        r"(?i)read-only file system|:erofs|:eacces|permission denied",
        (
            "The app may not write there. A release's tree is read-only: keep files in $HOME,"
            " or in a directory that a variable names."
        ),
    ),
)
_KNOWN = tuple((re.compile(pattern), hint) for pattern, hint in _HINTS)


def fitting(lines: Sequence[str], app: str) -> str:
    """Return advice about the first known cause among the lines; empty when none is known.

    The table's order decides, not the lines': an earlier entry is the more certain cause.
    """
    for pattern, hint in _KNOWN:
        for line in lines:
            if found := pattern.search(line):
                named = next(filter(None, found.groupdict().values()), "")
                return hint.format(app=app, one=named)
    return ""
