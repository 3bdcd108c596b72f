"""An embedded home on a machine with logind: what it runs after its user has logged out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.box import Box
    from tests.server.conftest import Boxes
    from tests.server.image import Image

ADVICE = "`loginctl enable-linger joe`"


def test_apps_outlive_the_session_or_the_user_is_warned(
    boxes: Boxes, server_image: Image, ssh_key: Path
) -> None:
    box = boxes(None, server_image)
    box.exec(["useradd", "--create-home", "--shell", "/bin/bash", "joe"])
    box.authorize("joe", ssh_key.with_suffix(".pub").read_text())

    def gatling(*words: str) -> str:
        done = box.ssh("joe", f"GATLING_HOME=/home/joe/.gatling gatling {' '.join(words)} 2>&1",
                       key=ssh_key)  # fmt: skip
        until(lambda: _state(box) not in ("online", "active"), "the end of the session", 240)
        return done.stdout

    # Debian's own settings: nothing of a session is killed
    assert ADVICE not in gatling("up")
    assert _supervisor(box)
    gatling("down")

    dropin = box.root / "etc/systemd/logind.conf.d/kill.conf"
    dropin.parent.mkdir(exist_ok=True)
    dropin.write_text("[Login]\nKillUserProcesses=yes\n")
    box.exec(["systemctl", "restart", "systemd-logind"])
    assert ADVICE in gatling("up")
    until(lambda: not _supervisor(box), "the end of what the session had started", 240)

    box.exec(["loginctl", "enable-linger", "joe"])
    assert ADVICE not in gatling("up")
    assert "user@" in box.exec(["cat", f"/proc/{_supervisor(box)}/cgroup"]).stdout
    assert ADVICE not in gatling("up")
    gatling("down")
    assert not _supervisor(box)


def _state(box: Box) -> str:
    """`closing` while only processes of ended sessions are there; "" when joe is not there."""
    shown = box.exec(["loginctl", "show-user", "joe", "-p", "State", "--value"], check=False)
    return shown.stdout.strip()


def _supervisor(box: Box) -> str:
    """The process id of joe's supervisord; "" when there is none."""
    found = box.exec(["pgrep", "-u", "joe", "-f", "supervisor.supervisord"], check=False)
    return found.stdout.strip()
