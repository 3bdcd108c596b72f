"""The server of the dashboard: who asks, what is permitted, and which page answers.

Every request passes the door (`door.py`), and each page names the commands whose output it shows:
the policy of SSH keys decides on these. Records are read in threads. Changes are processes of their
own, as those of the HTTP API.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route, Router

from gatling import debuglog, names
from gatling.api import answers
from gatling.dashboard import actions, clusters, databases, pages, rewinds, stream
from gatling.dashboard.door import Shut
from gatling.dashboard.live import Live
from gatling.dashboard.rendering import STATIC, Renderer
from gatling.dashboard.visit import Page, Visit
from gatling.errors import GatlingError, InvalidInput, NotAllowed, NotFound
from gatling.operations.session import opened, reading
from gatling.ssh import policy
from gatling.state import audit
from gatling.state.database import open_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gatling.dashboard.door import Door
    from gatling.ssh.policy import Grant
    from gatling.state.database import Database

READERS = 8
"""Threads that read."""
QUICK_SECONDS = 0.06
"""How long a page waits for nodes. It is loaded again soon if that was too short."""
NODES_KEPT = 20.0
"""How long the numbers of a node are shown while it is asked again: a node with many processes may
take longer than a page waits, and its numbers would come and go."""
BACKUPS_SECONDS, BACKUPS_KEPT = 20.0, 600.0
"""How long a list of backups counts as new, and is shown while a slow repository is asked again."""
REWIND_SECONDS = 20.0
"""How long the page of a rollback with data waits for the repository of the backups."""
FORM_BYTES = 512 << 10
"""Bytes of a form: a variable has up to 120 KiB, and three bytes of a form may stand for one."""
FORM_FIELDS = 50
CHANGES, JOBS = 4, 8
"""Changes, and jobs run by hand, that are under way at the same time. A job may take hours."""
REFUSED_SECONDS = 60.0
"""Equal refusals of strangers are put on record once in so many seconds: anybody can cause them."""
ASSETS = {
    "style.css": "text/css", "uplot.css": "text/css", "app.js": "text/javascript",
    "htmx.min.js": "text/javascript", "uplot.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # with `no-referrer`, browsers would leave out the origin of a form
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Found = TypeVar("Found")


class Dashboard:
    """The pages of one home, for one person."""

    def __init__(
        self, database: Path, root: Path, door: Door, who: Callable[[Database], Grant]
    ) -> None:
        """`who` gives the person's permissions as they are now; raises GatlingError for none."""
        self._database, self._root, self._who = database, root, who
        self.door = door
        self._renderer = Renderer(door)
        # in memory, 110 kB: a file would be read in three turns of a thread, before the first paint
        self._assets = {name: (STATIC / name).read_bytes() for name in ASSETS}
        self._readers = ThreadPoolExecutor(READERS, "readers")
        self._changes = actions.Workers(CHANGES, "changes")
        self._jobs = actions.Workers(JOBS, "jobs")
        self._nodes = Live(pages.ask_node, keep=NODES_KEPT)
        self._pings = Live(pages.ping)
        self._away = clusters.asked(pages.ask_instances)
        self._states = clusters.asked(clusters.ask)
        self._clusters = Live(databases.ask_cluster)
        self._backups = Live(databases.ask_backups, fresh=BACKUPS_SECONDS, keep=BACKUPS_KEPT)
        self._rewinds = Live(rewinds.ask)
        self._refused: dict[str, float] = {}
        self._last = time.monotonic()

    @property
    def idle(self) -> float:
        """Seconds since the last request."""
        return time.monotonic() - self._last

    def warm_up(self) -> None:
        """Do beforehand what the first page would wait for, while the browser starts."""
        self._renderer.load()
        with contextlib.suppress(GatlingError):  # a page will show it
            _gathered(pages.EVERY[0], Visit(self._grant(), "", "", {}))

    def touch(self) -> None:
        """Count as a request: a stream that is read."""
        self._last = time.monotonic()

    def application(self) -> ASGIApp:
        """The application, for a server of ASGI."""
        routes = [
            Route("/enter/{key}", self._answering(self._enter, entering=True)),
            Route("/static/{name}", self._answering(self._asset, entering=True)),
            *(Route(page.path, self._answering(self._page(page))) for page in pages.EVERY),
            *(
                Route(f"/apps/{{app}}/{one.name}", self._answering(self._act(one)),
                      methods=["POST"])
                for one in actions.EVERY
            ),
            Route("/apps/{app}/logs/stream", self._answering(self._follow)),
        ]  # fmt: skip
        made = Starlette(
            routes=[Mount(self.door.base, Router(routes, redirect_slashes=False))],
            exception_handlers={HTTPException: self._answering(self._no_page, entering=True)},
        )
        made.router.redirect_slashes = False
        return self._guarded(made)

    def _guarded(self, inner: ASGIApp) -> ASGIApp:
        """Add the headers that all answers have."""
        raw = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], *raw]
                await send(message)

            await inner(scope, receive, sending)

        return guarded

    def _answering(
        self, answer: Callable[..., Any], *, entering: bool = False
    ) -> Callable[..., Any]:
        """A handler that lets nobody in who has no access, and shows errors as pages.

        `entering`: without the cookie.
        """

        async def handler(request: Request, *error: Exception) -> Response:
            grant = None
            try:
                self.door.check_place(request.headers.getlist("host"))
                self.door.check_source(request.headers, entering=entering)
                if entering:
                    return await answer(request, *error)  # type: ignore[no-any-return]
                self.door.check_cookie(request.cookies)
                self.touch()
                grant = await self._in(self._grant)
                return await answer(request, grant)  # type: ignore[no-any-return]
            except Shut as shut:
                await self._record_stranger(shut.reason)
                return self._error(shut)
            except GatlingError as found:
                return self._error(found, grant)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as found:  # noqa: BLE001 (the last handler of a request)
                return self._error(debuglog.explained(found, "a page of the dashboard"), grant)

        return handler

    # ------------------------------------------------------------ who asks, and what is permitted

    async def _enter(self, request: Request) -> Response:
        """Let a browser in.

        The next page is not a redirect: the cookie is sent to no page that another program led to.
        """
        cookie = self.door.enter(request.path_params["key"])
        self.touch()
        text = self._renderer.render("enter.html", {})
        return _html(text, headers={"Set-Cookie": cookie})

    def _grant(self) -> Grant:
        with contextlib.closing(open_database(self._database)) as db:
            return self._who(db)

    async def _permitted(self, grant: Grant, command: str, app: str | None) -> None:
        """Raise NotAllowed for what the policy of SSH keys does not allow, and put it on record."""
        try:
            policy.check(grant, policy.Request(command, app))
        except NotAllowed as error:
            await self._record(grant.name, app, command)
            raise NotAllowed(error.what) from None  # its hint is about a command line

    async def _record(self, actor: str, app: str | None, what: str) -> None:
        def record() -> None:
            with contextlib.closing(open_database(self._database)) as db:
                audit.record(db, actor, app, "refused", f"{what} (dashboard)")

        await self._in(record)

    async def _record_stranger(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._refused.get(reason, float("-inf")) > REFUSED_SECONDS:
            self._refused[reason] = now
            await self._record("dashboard", None, reason)

    async def _in(self, work: Callable[[], Found], pool: ThreadPoolExecutor | None = None) -> Found:
        return await asyncio.get_running_loop().run_in_executor(pool or self._readers, work)

    # ------------------------------------------------------------ pages

    def _page(self, page: Page) -> Callable[[Request, Grant], Any]:
        async def show(request: Request, grant: Grant) -> Response:
            visit = await self._visit(request, grant, page.commands)
            context = await self._in(lambda: _gathered(page, visit))
            if page.live == "node" and context["asked"]:
                live = self._away if context["place"] else self._nodes
                context["node"] = await live.of(visit.app, QUICK_SECONDS)
                if context["place"]:
                    context["app"] = clusters.measured(context["app"], context["node"].value)
            elif page.live == "pings":
                context["pings"], states = await asyncio.gather(
                    self._pings.of_all(context["asked"], QUICK_SECONDS),
                    self._states.of_all(context["away"], QUICK_SECONDS),
                )
                context["states"] = clusters.by_app(context["places"], states)
                context["apps"] = clusters.answered(context["apps"], context["states"])
            elif page.live == "databases":
                context["clusters"], context["backups"] = await asyncio.gather(
                    self._clusters.of_all(context["asked"], QUICK_SECONDS),
                    self._backups.of_all(context["asked"], QUICK_SECONDS),
                )
            elif page.live == "rewind":
                found = await self._rewinds.of(context["asked"], REWIND_SECONDS)
                context["rewind"] = found.value
            return _html(self._renderer.render(page.template, context, visit))

        return show

    async def _visit(self, request: Request, grant: Grant, commands: tuple[str, ...]) -> Visit:
        app = request.path_params.get("app", "")
        if app:
            names.app_name(app)
        for command in commands:
            await self._permitted(grant, command, app or None)
        return Visit(grant, app, request.path_params.get("id", ""), dict(request.query_params))

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            raise NotFound("There is no such file.")
        return Response(
            self._assets[name], media_type=ASSETS[name],
            headers={"Cache-Control": "private, max-age=3600"},
        )  # fmt: skip

    async def _no_page(self, request: Request, _: Exception) -> Response:
        self.door.check_cookie(request.cookies)
        error = NotFound("There is no such page.", hint="The link may be of an older version.")
        return self._error(error, await self._in(self._grant))

    def _error(self, error: GatlingError, grant: Grant | None = None) -> Response:
        visit = Visit(grant, "", "", {}) if grant else None
        text = self._renderer.render("error.html", {"error": error}, visit)
        status = error.status if isinstance(error, actions.Failed) else answers.status_of(error)
        return _html(text, status)

    # ------------------------------------------------------------ changes, and what goes on

    def _act(self, action: actions.Action) -> Callable[[Request, Grant], Any]:
        async def act(request: Request, grant: Grant) -> Response:
            form = await _form(request)
            self.door.check_form(request.headers, form.pop("token", ""))
            visit = await self._visit(request, grant, (action.command,))
            job = action.job(visit, form)
            back = action.after(visit, form)
            run = actions.Run(action, job, self._root, self._database)
            begun = await run.begun(self._jobs if action.route == "run_job" else self._changes)
            if begun.notes:
                context = {"notes": begun.notes, "begun": begun, "back": back}
                return _html(self._renderer.render("noted.html", context, visit))
            if begun.deployment is not None:
                return RedirectResponse(
                    f"{self.door.base}/apps/{visit.app}/deployments/{begun.deployment}", 303
                )
            return RedirectResponse(self.door.base + back, 303)

        return act

    async def _follow(self, request: Request, grant: Grant) -> Response:
        visit = await self._visit(request, grant, ("logs",))
        return stream.following(visit, self.touch)


def _gathered(page: Page, visit: Visit) -> dict[str, Any]:
    session = reading(visit.app, clusters=page.clusters) if visit.app else opened()
    with session as gatling:
        gatling.actor = visit.grant.name
        return page.gather(gatling, visit)


async def _form(request: Request) -> dict[str, str]:
    kind, _, _ = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/x-www-form-urlencoded":
        raise InvalidInput("This is not a form of the dashboard.")
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > FORM_BYTES:
            raise InvalidInput("The form has too much text.")
    try:
        return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True,
                              max_num_fields=FORM_FIELDS))  # fmt: skip
    except ValueError:
        raise InvalidInput("The form has too many fields.") from None


def _html(text: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    own = {"Cache-Control": "no-store", **(headers or {})}
    return Response(text, status, headers=own, media_type="text/html; charset=utf-8")
