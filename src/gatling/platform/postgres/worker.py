"""Makes backups and forks as the OS user of a cluster: `python3 -I -S worker.py REQUEST`.

The request is JSON. Its answer is a line that begins with a NUL; all other lines are progress. Only
the standard library and Gatling's own code are loaded, so root's helper can start it in a unit.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

# last, so that no package that is installed beside Gatling takes the place of a standard module
sys.path.append(str(Path(__file__).resolve().parents[3]))

from gatling.errors import CommandFailed, GatlingError
from gatling.platform.postgres import backups, dumps, forks, reports, restoring, upgrading
from gatling.platform.postgres.sites import Chosen, ForkWish, Site

COPIES: dict[str, Callable[[dict[str, Any], Site], dict[str, Any]]] = {
    # standard input is the open file that a dump is written to, or read from
    "dump": lambda _, site: dumps.described(dumps.Dump(site, _say).write(0)),
    "load": lambda _, site: dumps.described(dumps.Load(site, _say).read(0)),
    "rehearse": lambda request, site: asdict(_upgrade(request, site).rehearse()),
    "upgrade": lambda request, site: asdict(_upgrade(request, site).run()),
}
"""Verbs that make another cluster of a database, or a file of it."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks for."""
    if request["verb"] == "list":
        found = reports.report(request["repository"], request["settings"])
        return {"backups": [asdict(one) for one in found
                            if one.stanza.split(".")[0] == request["database"]]}  # fmt: skip
    if request["verb"] == "check":
        reports.check(request["repository"], request["settings"])
        return {}
    site = Site(**request["site"])
    if request["verb"] in COPIES:
        return COPIES[request["verb"]](request, site)
    if request["verb"] in ("restore", "fork"):
        return _new_cluster(site, request)
    made = backups.Backups(site, _say).make(
        full=request["full"], count=request["count"], days=request["days"]
    )
    return asdict(made)


def _new_cluster(site: Site, request: dict[str, Any]) -> dict[str, Any]:
    """Fill a new cluster from a backup of another one, or from the other one itself."""
    source = Site(**request["source"])
    if request["verb"] == "fork":
        wish = ForkWish(**request["wish"])
        return asdict(forks.Fork(site, _say).fork(source, request["role"], wish))
    chosen = Chosen(**request["chosen"])
    try:
        restored = restoring.Restore(site, _say).run(chosen, backups.Backups(source, _say))
    except CommandFailed as error:
        raise restoring.explained(error, chosen) from None
    return asdict(restored)


def _upgrade(request: dict[str, Any], site: Site) -> upgrading.Upgrade:
    return upgrading.Upgrade(Site(**request["source"]), site, _say)


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
