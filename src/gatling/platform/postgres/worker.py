"""Makes backups and forks as the OS user of a cluster: `python3 -I -S worker.py REQUEST`.

The request is JSON. Its answer is a line that begins with a NUL; all other lines are progress. Only
the standard library and Gatling's own code are loaded, so root's helper can start it in a unit.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatling.platform.postgres.sites import Site

# last, so that no package that is installed beside Gatling takes the place of a standard module
sys.path.append(str(Path(__file__).resolve().parents[3]))

from gatling.errors import CommandFailed, GatlingError
from gatling.platform.postgres import reports

COPIES = ("dump", "load", "rehearse", "upgrade")
"""Verbs that make another cluster of a database, or a file of it."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks for. Each verb loads its own modules: most list backups."""
    if request["verb"] == "list":
        found = reports.report(request["repository"], request["settings"])
        return {"backups": [asdict(one) for one in found
                            if one.stanza.split(".")[0] == request["database"]]}  # fmt: skip
    if request["verb"] == "check":
        reports.check(request["repository"], request["settings"])
        return {}
    from gatling.platform.postgres.sites import Site

    site = Site(**request["site"])
    if request["verb"] in COPIES:
        return _copied(site, request)
    if request["verb"] in ("restore", "fork"):
        return _new_cluster(site, request)
    from gatling.platform.postgres import backups

    made = backups.Backups(site, _say).make(
        full=request["full"], count=request["count"], days=request["days"]
    )
    return asdict(made)


def _copied(site: Site, request: dict[str, Any]) -> dict[str, Any]:
    """Write or read a dump, or upgrade a cluster to another version."""
    from gatling.platform.postgres.sites import Site

    if request["verb"] in ("dump", "load"):
        from gatling.platform.postgres import dumps

        # standard input is the open file that a dump is written to, or read from
        if request["verb"] == "dump":
            return dumps.described(dumps.Dump(site, _say).write(0))
        return dumps.described(dumps.Load(site, _say).read(0))
    from gatling.platform.postgres import upgrading

    upgrade = upgrading.Upgrade(Site(**request["source"]), site, _say)
    return asdict(upgrade.rehearse() if request["verb"] == "rehearse" else upgrade.run())


def _new_cluster(site: Site, request: dict[str, Any]) -> dict[str, Any]:
    """Fill a new cluster from a backup of another one, or from the other one itself."""
    from gatling.platform.postgres.sites import Chosen, ForkWish, Site

    source = Site(**request["source"])
    if request["verb"] == "fork":
        from gatling.platform.postgres import forks

        wish = ForkWish(**request["wish"])
        return asdict(forks.Fork(site, _say).fork(source, request["role"], wish))
    from gatling.platform.postgres import backups, restoring

    chosen = Chosen(**request["chosen"])
    try:
        restored = restoring.Restore(site, _say).run(chosen, backups.Backups(source, _say))
    except CommandFailed as error:
        raise restoring.explained(error, chosen) from None
    return asdict(restored)


def main() -> None:
    """Answer one request."""
    os.umask(0o077)
    try:
        result = answer(json.loads(sys.argv[1]))
    except GatlingError as error:
        result = {"what": error.what, "hint": error.hint, "log": list(error.log),
                  "kind": type(error).__name__}  # fmt: skip
    _say(f"\0{json.dumps(result)}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more, and a backup is completed
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
