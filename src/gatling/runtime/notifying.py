"""Facts that nobody records when they happen: instances that ended, a full disk, certificates.

They are looked at from time to time. The last look is remembered, so that each is reported once,
and once more when it is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from gatling.errors import GatlingError
from gatling.proxy.certificates import chosen
from gatling.state import apps, issuance, notices
from gatling.text import listed
from gatling.times import day, stamp_of

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.open import Gatling
    from gatling.platform.restarts import End
    from gatling.state.apps import App

QUIET_SECONDS = 600.0
"""The pause between two notifications about the ends of one instance."""
CERTIFICATE_SECONDS = 3600.0
"""How long certificates may fail before that is reported: a domain is added before its DNS."""
EXPIRY_SECONDS = 14 * 86400.0
"""How long before its end a certificate that Gatling does not renew is reported."""
DISK_LOW, DISK_OK = 5, 10
"""Percents of free space below which a disk is nearly full, and above which it no longer is."""
_LOOKED = "looked"


def soon(gatling: Gatling) -> None:
    """Send what waits in the background, without waiting for it. It never fails."""
    with contextlib.suppress(GatlingError, OSError):
        if any(due(gatling, time.time())):
            gatling.schedule.deliver_soon()


def due(gatling: Gatling, now: float) -> list[str]:
    """The channels for which something waits that may be sent now."""
    quiet = quiet_apps(gatling, now)
    return [
        one.name for one in notices.every(gatling.db)
        if one.retry_at <= now and notices.next_of(gatling.db, one, now, quiet)
    ]  # fmt: skip


def quiet_apps(gatling: Gatling, now: float) -> set[str]:
    """The apps whose alerts wait at a Unix time, by their setting `alerts.quiet`."""
    return {
        app.name for app in apps.every(gatling.db)
        if notices.in_hours(app.effective.get("alerts.quiet", ""), now)
    }  # fmt: skip


def look(gatling: Gatling) -> None:
    """Record an event for each thing that has changed since the last look.

    Nothing is looked at while there is no channel.
    """
    if not notices.every(gatling.db):
        return
    now = time.time()
    since = float(notices.condition(gatling.db, _LOOKED) or now)
    for app in apps.every(gatling.db):
        _look_at_ends(gatling, app, since, now)
        _look_at_certificates(gatling, app.name, now)
        _look_at_expiry(gatling, app, now)
    _look_at_disk(gatling)
    with gatling.db.transaction():
        notices.set_condition(gatling.db, _LOOKED, str(now))


def forget(gatling: Gatling, app: str) -> None:
    """Forget what was seen of an app that is removed."""
    notices.forget_conditions(gatling.db, f"{app}/")


def _look_at_ends(gatling: Gatling, app: App, since: float, now: float) -> None:
    slots: list[int | str] = [1, 2, *gatling.instances.process_slots(app.name)]
    for slot in slots:
        name = f"{app.name}/ends/{slot}"
        seen, told = json.loads(notices.condition(gatling.db, name) or f"[{since}, 0]")
        new = [end for end in gatling.instances.ends(app.name, slot) if end.at > seen]
        if not new or now - told < QUIET_SECONDS:
            continue
        with gatling.db.transaction():
            _report_ends(gatling, app, "web" if isinstance(slot, int) else str(slot), new)
            notices.set_condition(gatling.db, name, json.dumps([new[-1].at, now]))


def _report_ends(gatling: Gatling, app: App, process: str, ends: list[End]) -> None:
    last = ends[-1]
    times = "once" if len(ends) == 1 else f"{len(ends)} times"
    notices.add(
        gatling.db,
        "instance.ended",
        f"{app.name}: an instance ended {times} ({last.cause}) and was started again",
        f"`gatling logs {app.name}` has its last lines.",
        app=app.name,
        data={"process": process, "ends": len(ends), "cause": last.cause, "at": last.stamp},
    )


def _look_at_certificates(gatling: Gatling, app: str, now: float) -> None:
    name, state = f"{app}/certificate", issuance.of_app(gatling.db, app)
    known = json.loads(notices.condition(gatling.db, name) or "null")
    if not state.failures:
        if known is not None:
            with gatling.db.transaction():
                if known["told"]:
                    title = f"{app}: its certificate was obtained"
                    notices.add(gatling.db, "certificate.obtained", title, app=app)
                notices.set_condition(gatling.db, name, "null")
        return
    begun = known or {"since": now, "told": False}
    tell = not begun["told"] and now - begun["since"] >= CERTIFICATE_SECONDS
    if not tell and known is not None:
        return
    with gatling.db.transaction():
        if tell:
            notices.add(
                gatling.db,
                "certificate.failed",
                f"{app}: no certificate could be obtained for {state.domains}",
                f"{state.error} {state.hint}".strip(),
                app=app,
                data={"domains": state.domains.split(), "failures": state.failures},
            )
        seen = {"since": begun["since"], "told": begun["told"] or tell}
        notices.set_condition(gatling.db, name, json.dumps(seen))


def _look_at_expiry(gatling: Gatling, app: App, now: float) -> None:
    """Report each certificate once that a person gave, serves, and will expire."""
    name = f"{app.name}/expiry"
    told = json.loads(notices.condition(gatling.db, name) or "[]")
    serving = chosen(gatling.certificates.of(app.name), app.domains, now)
    ending = {
        one.id: one for one in serving.values()
        if not one.obtained and one.not_after - now < EXPIRY_SECONDS
    }  # fmt: skip
    if sorted(ending) == told:
        return
    with gatling.db.transaction():
        for one in ending.values():
            if one.id in told:
                continue
            domains = sorted(domain for domain, used in serving.items() if used.id == one.id)
            verb = "expires" if one.not_after > now else "has expired"
            notices.add(
                gatling.db,
                "certificate.expiring",
                f"{app.name}: the certificate of {listed(domains)} {verb} on {day(one.not_after)}",
                f"Gatling does not renew it. `gatling certificates add {app.name}` replaces it,"
                f" `gatling certificates remove {app.name} {one.id[:8]}` lets Gatling obtain one.",
                app=app.name,
                data={"domains": domains, "not_after": stamp_of(one.not_after)},
            )
        notices.set_condition(gatling.db, name, json.dumps(sorted(ending)))


def _look_at_disk(gatling: Gatling) -> None:
    free = free_percent(gatling.home.root)
    was_low = notices.condition(gatling.db, "disk") == "low"
    if (free >= DISK_LOW and not was_low) or (free <= DISK_OK and was_low):
        return
    event = "disk.ok" if was_low else "disk.low"
    what = "has room again" if was_low else "is nearly full"
    hint = "" if was_low else "Delete files that are not needed, or keep fewer releases."
    title = f"the disk of {gatling.home.root} {what}: {free} % free"
    with gatling.db.transaction():
        notices.add(gatling.db, event, title, hint, data={"free_percent": free})
        notices.set_condition(gatling.db, "disk", "ok" if was_low else "low")


def free_percent(directory: Path) -> int:
    """The lesser of the free space and the free inodes of a file system, in percent."""
    info = os.statvfs(directory)
    space = 100 * info.f_bavail // max(1, info.f_blocks)
    return min(space, 100 * info.f_favail // info.f_files) if info.f_files else space
