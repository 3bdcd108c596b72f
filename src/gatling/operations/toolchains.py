"""Toolchains of the host: which there are, and which apps build with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.build import toolchain as chooser
from gatling.errors import GatlingError, InvalidInput, NotFound
from gatling.operations import settings as app_settings
from gatling.platform import lock
from gatling.platform.toolchains import order as orders
from gatling.platform.toolchains import store
from gatling.platform.toolchains.order import AUTOMATIC, MIRROR, Order
from gatling.project import settings, toolchain_files, toolchains
from gatling.state import apps, audit, deployments, home_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gatling.platform.open import Gatling
    from gatling.platform.toolchains.store import Installed
    from gatling.state.apps import App
    from gatling.state.deployments import Deployment


class Shown(Struct, frozen=True):
    """A toolchain of the host."""

    name: str
    """`system` is the Elixir and OTP of the host itself."""
    elixir: str
    otp: str
    bytes: int | None
    """Its use of the disk; None for the host's own."""
    source: str
    apps: list[str]
    """The apps whose next build uses it, judged by their settings and by their last build."""


class Source(Struct, frozen=True):
    """The source of toolchains, and whether a push installs one that is missing."""

    mirror: str
    automatic: bool
    open: bool
    """Whether others on the network can change what comes from the mirror."""


class Installation(Struct, frozen=True):
    """The result of `install`."""

    name: str
    bytes: int
    changed: bool
    """Whether it was not installed before."""


class Use(Struct, frozen=True):
    """The result of `use`."""

    app: str
    setting: str
    """The value of `build.toolchain` from now on."""
    toolchain: str
    """The toolchain of the next build; empty where the project's own files decide."""


def every(gatling: Gatling) -> list[Shown]:
    """The toolchains of the host, its own last."""
    used: dict[str, list[str]] = {}
    for app in apps.every(gatling.db, clusters=True):
        used.setdefault(_next(gatling, app), []).append(app.name)
    found = [
        Shown(each.name, str(each.elixir), str(each.otp), each.bytes, each.source,
              used.get(each.name, []))
        for each in gatling.toolchains.installed()
    ]  # fmt: skip
    base = store.on_path(gatling.apps.surroundings("system").build["PATH"])
    if base is not None:
        found.append(Shown(base.name, str(base.elixir), str(base.otp), None, "this host",
                           used.get(toolchains.SYSTEM, [])))  # fmt: skip
    return found


def source(gatling: Gatling) -> Source:
    """The source of toolchains."""
    mirror = home_settings.get(gatling.db, MIRROR) or orders.DEFAULT
    automatic = home_settings.get(gatling.db, AUTOMATIC) == "on"
    return Source(mirror, automatic, orders.is_open(mirror))


def check_mirror(mirror: str | None) -> None:
    """Raise InvalidInput for a text that is not the URL of a mirror."""
    if mirror is not None and not orders.URL.fullmatch(mirror):
        raise InvalidInput(
            f"{mirror!r} is not the URL of a mirror.", hint=f"For example {orders.DEFAULT}."
        )


def set_source(gatling: Gatling, mirror: str | None, *, automatic: bool | None) -> Source:
    """Change the mirror, or whether a push installs what it needs; raises InvalidInput."""
    check_mirror(mirror)
    if mirror is not None:
        mirror = mirror.rstrip("/")
        home_settings.put(gatling.db, MIRROR, mirror)
        audit.record(gatling.db, gatling.actor, None, "toolchain source", f"mirror {mirror}")
    if automatic is not None:
        word = "on" if automatic else "off"
        home_settings.put(gatling.db, AUTOMATIC, word)
        audit.record(gatling.db, gatling.actor, None, "toolchain source", f"automatic {word}")
    return source(gatling)


def check(wanted: str) -> None:
    """Raise InvalidInput for a text that is not the version of a toolchain."""
    toolchains.parse(wanted)


def install(
    gatling: Gatling,
    wanted: str,
    say: Callable[[str], None],
    *,
    paths: Sequence[str] = (),
    sha256: str = "",
) -> Installation:
    """Install a toolchain from the mirror, or from directories and archives of this host.

    Raises InvalidInput, NotFound, DiskFull and CommandFailed; nothing is installed then.
    """
    before = [each.name for each in gatling.toolchains.installed()]
    order = Order(str(toolchains.parse(wanted)), source(gatling).mirror, tuple(paths), sha256,
                  tuple(before))  # fmt: skip
    made = gatling.toolchains.install(order, say)
    changed = made.name not in before
    if changed:
        audit.record(gatling.db, gatling.actor, None, "toolchain install", made.name)
    return Installation(made.name, made.bytes, changed)


def use(gatling: Gatling, app: str, wanted: str, say: Callable[[str], None]) -> Use:
    """Let the next builds of an app use a toolchain, `system`, or with `auto` what its files ask.

    Raises NotFound for a toolchain that is not installed.
    """
    found = apps.get(gatling.db, app)
    if wanted == "auto":
        if "build.toolchain" in found.settings:
            app_settings.change(gatling, app, {}, ["build.toolchain"], say=say)
        return Use(app, toolchains.AUTO, "")
    if wanted != toolchains.SYSTEM:
        wanted = str(toolchains.parse(wanted))
        _find(gatling, wanted)
    app_settings.change(gatling, app, {"build.toolchain": wanted}, [], say=say)
    return Use(app, wanted, _next(gatling, apps.get(gatling.db, app)))


def remove(gatling: Gatling, wanted: str) -> str:
    """Remove an installed toolchain that no app's next build uses; its name.

    Releases contain their own Erlang, so none of them is affected. Raises NotFound, and
    InvalidInput for one in use, a version that stands for several, and while an app is built.
    """
    parsed = toolchains.parse(wanted)
    fitting = [each for each in gatling.toolchains.installed()
               if parsed.fits(each.elixir, each.otp)]  # fmt: skip
    if len(fitting) > 1:
        raise InvalidInput(
            f"{wanted} stands for {len(fitting)} toolchains.",
            hint=f"Name one of them: {', '.join(each.name for each in fitting)}.",
        )
    if not fitting:
        raise _not_installed(wanted)
    (one,) = fitting
    using = [
        app.name for app in apps.every(gatling.db, clusters=True) if _next(gatling, app) == one.name
    ]
    if using:
        raise InvalidInput(
            f"{', '.join(using)} would be built with {one.name} at the next push.",
            hint=f"`gatling toolchain use {using[0]} {toolchains.SYSTEM}`, or another version,"
            " comes first.",
        )
    building = [each for each in deployments.running(gatling.db) if _builds(gatling, each)]
    if building:
        raise InvalidInput(
            f"{building[0].app} is being built, perhaps with {one.name}.",
            hint="Remove the toolchain once the deployment has ended.",
        )
    gatling.toolchains.remove(one.name)
    audit.record(gatling.db, gatling.actor, None, "toolchain remove", one.name)
    return one.name


def _builds(gatling: Gatling, deployment: Deployment) -> bool:
    """Whether a deployment has a build, which may use a toolchain until the deployment ends.

    One without an outcome that holds no lock was killed.
    """
    with lock.try_hold(gatling.home.app(deployment.app).lock) as free:
        return not free and any(step.name == "export_source" for step in deployment.steps)


def _find(gatling: Gatling, wanted: str) -> Installed:
    parsed = toolchains.parse(wanted)
    for each in gatling.toolchains.installed():
        if parsed.fits(each.elixir, each.otp):
            return each
    raise _not_installed(wanted)


def _not_installed(wanted: str) -> NotFound:
    return NotFound(
        f"No toolchain {wanted} is installed.",
        hint=f"`gatling toolchain list` shows those that are. `gatling toolchain install {wanted}`"
        " installs it.",
    )


def _next(gatling: Gatling, app: App) -> str:
    """The toolchain of the next build if it asks for what the last one did; `system` otherwise."""
    build = settings.parse(app.effective).build
    around = gatling.apps.surroundings(app.name)
    if around.pinned:
        return ""
    asked = toolchain_files.read(around.paths.source / build.directory)
    installed = [each.plain for each in gatling.toolchains.installed()]
    try:
        chosen = chooser.choose(around, build.toolchain, asked, installed)
    except GatlingError:
        return ""
    return chosen.name if chosen else toolchains.SYSTEM
