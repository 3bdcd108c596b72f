"""The program that carries out one change for the server of the API.

It is a process of its own, as a command over SSH is. Signals, locks and what a deployment starts
are then its own, and it outlives the server. The request comes on standard input, so that neither a
list of processes nor a log shows a value. Standard output has the answer and nothing else.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gatling import debuglog, decoding
from gatling.api import answers
from gatling.api.contract import Call, Caller
from gatling.api.routes import BY_NAME, ON_CLUSTERS
from gatling.operations.session import opened, reading
from gatling.ssh.policy import Grant, Request, check

if TYPE_CHECKING:
    from gatling.api.contract import Route


class Job(Struct, frozen=True):
    """A request that the server has let through."""

    route: str
    caller: Caller
    app: str
    query: dict[str, Any]
    body: bytes
    name: str = ""
    """See Call.name."""


class Done(Struct, frozen=True):
    """Its answer."""

    status: int
    body: bytes


def done(job: Job) -> Done:
    """Carry out a request."""
    try:
        return Done(200, _carried_out(job))
    except Exception as error:  # noqa: BLE001 (the last handler of this process)
        told = debuglog.explained(error)
        return Done(answers.status_of(told), answers.encoded(told))


def _carried_out(job: Job) -> bytes:
    route, caller = BY_NAME[job.route], job.caller
    grant = Grant(caller.name, caller.role, frozenset(caller.apps))
    other = other_app(route, job.body)
    check(grant, Request(route.command, job.app or None, other_app=other))
    query = answers.converted(job.query, route.query, "The query", strict=False)
    body = answers.decoded(job.body or b"{}", route.body) if route.body is not None else None
    session = reading if route.method == "GET" else opened
    clusters = route.name in ON_CLUSTERS
    with session(job.app, clusters=clusters) if job.app else opened() as gatling:
        gatling.actor = caller.name
        result = route.call(gatling, Call(grant, job.app, 0, query, body, caller, job.name))
        return msgspec.json.encode(result)


def other_app(route: Route, body: bytes) -> str | None:
    """The second app that a body names, from which something is taken."""
    if not body or "other_app" not in getattr(route.body, "__struct_fields__", ()):
        return None
    named: str | None = getattr(answers.decoded(body, route.body), "other_app", None)
    return named


def main() -> None:
    """Answer the request on standard input."""
    job = decoding.from_json(sys.stdin.buffer.read(), Job)
    answer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # what a deployment prints is in its log
        os.dup2(nowhere, number)
    text = msgspec.json.encode(done(job))
    with open(answer, "wb") as out:  # noqa: PTH123
        out.write(text)


if __name__ == "__main__":
    main()
