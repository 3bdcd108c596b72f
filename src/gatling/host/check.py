"""Find the faults of this host, and how to fix them: `gatling server check`.

Each check is a function that yields findings, and none of them changes anything. One that breaks is
a finding itself; one that this user cannot make is left out, and named at the end. Best as root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import GatlingError
from gatling.host import check_apps as apps
from gatling.host import check_machine as machine
from gatling.host.findings import Finding
from gatling.paths import SERVER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatling.host.findings import Check

CHECKS: dict[str, Check] = {
    "installation": machine.installation,
    "location": machine.location,
    "systemd": machine.systemd,
    "helper": machine.helper,
    "units": machine.failed_units,
    "apps": apps.every_app,
    "ports": apps.app_ports,
    "network": apps.reachable,
    "nginx": machine.nginx,
    "certificates": apps.certificates_of_apps,
    "http3": apps.http3_of_apps,
    "databases": apps.databases_of_apps,
    "notifications": apps.notifications,
    "drains": apps.log_drains,
    "watch": apps.watch,
    "sshd": machine.sshd,
    "keys": machine.keys,
    "disk": machine.disk,
    "memory": machine.memory,
    "clock": machine.clock,
    "programs": machine.programs,
}


def check(server: Path = SERVER, checks: Mapping[str, Check] | None = None) -> list[Finding]:
    """All findings; raises nothing."""
    if not (server / "home").is_dir():
        return [Finding("installation", False, "Gatling is not installed on this host.",
                        "`gatling server install`, or bin/install from a clone.")]  # fmt: skip
    found: list[Finding] = []
    unseen: list[str] = []
    for name, make in (CHECKS if checks is None else checks).items():
        try:
            found += make()
        except PermissionError:
            unseen.append(name)
        except GatlingError as error:
            said = " ".join((error.what, *error.log[-3:]))
            found.append(Finding(name, False, said, error.hint or "Fix the cause named above."))
        except Exception as error:  # noqa: BLE001 (the others are still to be made)
            found.append(Finding(name, False, f"This check crashed: {error!r}",
                                 "Please report this defect."))  # fmt: skip
    if unseen:
        what = f"Not checked, because only root can: {', '.join(unseen)}."
        found.append(Finding("rights", True, what))
    return found
