"""The server of the API: who asks, what is permitted, and who carries it out.

Every request passes `_admitted` and the policy of SSH keys before its body is read. Reading is done
in threads, each with the records opened for itself. Everything else is done by a process of its own
(`worker.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as Path

from gatling import debuglog, names
from gatling.api import answers, changes, description, events, limits
from gatling.api.answers import Refused
from gatling.api.contract import MAX_BODY, NAMED, Call, Caller
from gatling.api.routes import ID, ON_CLUSTERS, PREFIX, ROUTES
from gatling.api.worker import Job, other_app
from gatling.errors import GatlingError, NotAllowed
from gatling.operations.session import opened, reading
from gatling.ssh import policy
from gatling.ssh.policy import Grant
from gatling.state import audit, tokens
from gatling.state.database import open_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path as File

    from starlette.types import Receive, Scope, Send

    from gatling.api.contract import Route
    from gatling.state.tokens import Token

BODY_SECONDS = 30
"""How long the body of a request may take to come."""
LOOK_SECONDS = 0.5
"""From one look of an event stream at the records to the next."""
BEAT_SECONDS = 15
"""After which a stream without events sends a comment, so that no proxy takes it for dead."""
STREAM_SECONDS = 3600
"""After which a stream ends. Clients connect again by themselves."""
UNKNOWN_SECONDS = 60
"""Unknown tokens are put on record once in so many seconds: anybody can send them."""
READERS = 8
"""Threads that read: more than one token may use."""

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_LOGIN = {"WWW-Authenticate": 'Bearer realm="gatling"'}

Found = TypeVar("Found")


class Server:
    """Answers requests for one home."""

    def __init__(self, database: File, root: File) -> None:
        self._database, self._root = database, root
        self._limits = limits.Limits()
        self._quick = ThreadPoolExecutor(2, "tokens")
        """Nothing that takes long runs here: tokens are looked up, and streams look for events."""
        self._readers = ThreadPoolExecutor(READERS, "readers")
        self._workers = ThreadPoolExecutor(limits.CHANGES_OF_ALL, "workers")
        self._unknown_at = float("-inf")

    def application(self) -> Starlette:
        """The application, for a server of ASGI."""
        by_path: dict[str, dict[str, Route]] = {}
        for route in ROUTES:
            by_path.setdefault(route.path, {})[route.method] = route
        made = Starlette(
            routes=[
                Path(PREFIX + path, self._endpoint(methods), methods=sorted(methods))
                for path, methods in by_path.items()
            ],
            exception_handlers={HTTPException: self._no_route},
        )
        made.router.redirect_slashes = False
        return made

    def _endpoint(self, methods: Mapping[str, Route]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            route = methods["GET" if request.method == "HEAD" else request.method]
            try:
                return await self._answer(route, request)
            except GatlingError as error:
                return _refusal(error)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:  # noqa: BLE001 (the last handler of a request)
                return _refusal(debuglog.explained(error, "a request to the API"))

        return endpoint

    async def _no_route(self, request: Request, error: Exception) -> Response:
        """Answer for a path or a method that there is not: without a token, nothing is said."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        try:
            await self._admitted(request)
        except GatlingError as refused:
            return _refusal(refused)
        allow = getattr(error, "headers", None) or {}
        if status == 405:
            return _refusal(Refused(405, "method-not-allowed", "There is no such method here.",
                                    headers=allow))  # fmt: skip
        return _refusal(Refused(status, "not-found", "There is no such path."))

    async def _answer(self, route: Route, request: Request) -> Response:
        token = await self._admitted(request)
        grant = Grant(token.name, token.role, frozenset(token.apps))
        caller = Caller(token.name, token.role, list(token.apps), token.expires_at)
        app = names.app_name(request.path_params["app"]) if route.of_app else ""
        await self._permitted(route, grant, app)
        query = _query(request)
        given = answers.converted(query, route.query, "The query", strict=False)
        ident = 0
        if "id" in request.path_params:
            ident = _ident(request.path_params["id"])
        name = next((text for key, text in request.path_params.items() if key in NAMED), "")
        if route.kind == "description":
            return _json(description.encoded())
        if route.kind == "events":
            watched: str | None = getattr(given, "app", None)
            if watched is not None:
                await self._permitted(route, grant, watched)
            return self._stream(request, token, grant, watched)
        body = await _body(route, request)
        other = other_app(route, body)
        if other:
            await self._permitted(route, grant, other)
        with self._limits.under_way(grant.name, "request", limits.AT_ONCE):
            if route.kind == "work":
                job = Job(route.name, caller, app, query, body, name)
                with self._limits.under_way("", "change", limits.CHANGES_OF_ALL):
                    done = await self._in(
                        self._workers, lambda: changes.carried_out(job, self._root)
                    )
                return _json(done.body, done.status)
            call = Call(grant, app, ident, given, None, caller, name)
            found = await self._in(self._readers, lambda: _read(route, call))
        if route.kind == "text":
            return Response(found, headers=HEADERS, media_type="text/plain; charset=utf-8")
        return _json(found)

    # ------------------------------------------------------------ who asks, and what is permitted

    async def _admitted(self, request: Request) -> Token:
        """The token of a request; raises Refused without a valid one, or for too many requests."""
        digest = tokens.digest_of(_token_text(request))
        token = await self._in(self._quick, lambda: self._known(digest))
        if token is None:
            self._limits.admit_unknown()
            if time.monotonic() - self._unknown_at > UNKNOWN_SECONDS:
                self._unknown_at = time.monotonic()
                await self._record("api", None, "token is not known")
            raise Refused(401, "unauthorized", "This token is not known.", headers=_LOGIN)
        self._limits.admit(token.name)
        if token.expired:
            await self._record(token.name, None, "token has expired")
            raise Refused(
                401, "expired", f"The token {token.name} expired at {token.expires_at}.",
                hint="`gatling tokens add` creates a new one.", headers=_LOGIN,
            )  # fmt: skip
        return token

    async def _permitted(self, route: Route, grant: Grant, app: str) -> None:
        """Raise NotAllowed for what the policy of SSH keys does not allow, and put it on record."""
        try:
            policy.check(grant, policy.Request(route.command, app or None))
        except NotAllowed as error:
            await self._record(grant.name, app or None, route.command)
            raise NotAllowed(error.what) from None  # its hint is about a command line

    def _known(self, digest: str) -> Token | None:
        with contextlib.closing(open_database(self._database)) as db:
            token = tokens.find(db, digest)
            if token is not None and not token.expired:
                with contextlib.suppress(GatlingError):  # a full disk keeps nobody from reading
                    tokens.used(db, token)
            return token

    async def _record(self, actor: str, app: str | None, what: str) -> None:
        def record() -> None:
            with contextlib.closing(open_database(self._database)) as db:
                audit.record(db, actor, app, "refused", f"{what} (HTTP API)")

        await self._in(self._quick, record)

    # ------------------------------------------------------------ who carries it out

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    # ------------------------------------------------------------ events

    def _stream(
        self, request: Request, token: Token, grant: Grant, app: str | None
    ) -> _HeldResponse:
        places = contextlib.ExitStack()
        places.enter_context(self._limits.under_way("", "streams", limits.STREAMS_OF_ALL))
        try:
            places.enter_context(self._limits.under_way(token.name, "streams", limits.STREAMS))
        except Refused:
            places.close()
            raise
        watcher = events.Watcher(
            lambda name: grant.covers(name) and app in (None, name),
            request.headers.get("last-event-id", ""),
        )
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return _HeldResponse(places, self._events(watcher, token.digest), headers)

    async def _events(self, watcher: events.Watcher, digest: str) -> AsyncIterator[bytes]:
        """The text of a stream, until the token is no longer valid."""
        end = time.monotonic() + STREAM_SECONDS
        beat = time.monotonic()
        yield b"retry: 2000\n\n"
        while time.monotonic() < end:
            found = await self._in(self._quick, lambda: self._look(watcher, digest))
            if found is None:
                return
            for event in found:
                yield event.encoded()
            if found:
                beat = time.monotonic()
            elif time.monotonic() - beat > BEAT_SECONDS:
                beat = time.monotonic()
                yield b": \n\n"
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self, watcher: events.Watcher, digest: str) -> Sequence[events.Event] | None:
        with contextlib.closing(open_database(self._database)) as db:
            token = tokens.find(db, digest)
            return None if token is None or token.expired else watcher.look(db)


class _HeldResponse(StreamingResponse):
    """A stream that gives its places back, however it ends."""

    def __init__(
        self,
        places: AbstractContextManager[object],
        content: AsyncIterator[bytes],
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(content, headers=headers, media_type="text/event-stream")
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places:
            await super().__call__(scope, receive, send)


def _read(route: Route, call: Call) -> bytes:
    clusters = route.name in ON_CLUSTERS
    session = reading(call.app, clusters=clusters) if call.app else opened()
    with session as gatling:
        gatling.actor = call.grant.name
        found = route.call(gatling, call)
    return found.encode() if isinstance(found, str) else msgspec.json.encode(found)


def _token_text(request: Request) -> str:
    """The token of a request; raises Refused for a request that has none, or several."""
    given = request.headers.getlist("authorization")
    scheme, _, text = (given[0] if len(given) == 1 else "").partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise Refused(
            401, "unauthorized", "The request has no token.",
            hint="Send a token of `gatling tokens add` as Authorization: Bearer TOKEN.",
            headers=_LOGIN,
        )  # fmt: skip
    if len(text) > 2 * tokens.LENGTH:
        raise Refused(401, "unauthorized", "This token is not known.", headers=_LOGIN)
    return text


def _query(request: Request) -> dict[str, str]:
    given = request.query_params.multi_items()
    found = dict(given)
    if len(found) != len(given):
        raise Refused(422, "invalid-input", "A parameter is given twice.")
    return found


def _ident(text: str) -> int:
    # of more digits, int() itself takes long
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text
    return cast("int", answers.converted(number, ID, "The number of the deployment"))


async def _body(route: Route, request: Request) -> bytes:
    """The body of a request, which must be JSON; raises Refused, InvalidInput."""
    raw = await _received(request)
    if route.body is None:
        if raw:
            raise Refused(422, "invalid-input", "This request has no body.")
        return b""
    if not raw and not route.body_required:
        return b""
    kind, _, _ = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise Refused(415, "unsupported-media-type", "The body must be application/json.")
    answers.decoded(raw, route.body)
    return raw


async def _received(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal() and len(length) < 20) or (
        int(length) > MAX_BODY
    ):
        raise _too_large()
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > MAX_BODY:
                    raise _too_large()
    except TimeoutError:
        raise Refused(408, "timed-out", "The body did not come in time.",
                      headers={"Connection": "close"}) from None  # fmt: skip
    return bytes(raw)


def _too_large() -> Refused:
    return Refused(413, "too-large", f"The body has more than {MAX_BODY >> 20} MiB.",
                   headers={"Connection": "close"})  # fmt: skip


def _json(text: bytes, status: int = 200) -> Response:
    return Response(text, status, headers=HEADERS, media_type="application/json")


def _refusal(error: GatlingError) -> Response:
    own = error.headers if isinstance(error, Refused) else {}
    return Response(
        answers.encoded(error), answers.status_of(error), headers={**HEADERS, **own},
        media_type="application/json",
    )  # fmt: skip
