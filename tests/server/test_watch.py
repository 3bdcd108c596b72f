"""A watch that goes on after its push on a server, where systemd keeps it going."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import until

if TYPE_CHECKING:
    from tests.server.server import Server

COUNT = '  defp answer("/count"), do: text(200, Integer.to_string(Counter.Store.count()))\n'


def test_a_release_that_serves_worse_is_undone_after_the_push(server: Server) -> None:
    """The watching unit is killed in between, and the timer of recovery starts another one."""
    admin = server.admin("mia")
    project = admin.project()
    project.push()
    admin.run("settings", "set", "shop", "hot.watch=10m", "hot.boot_check=off")
    pid = server.status()["pid"]
    project.replace(
        "lib/counter/router.ex", COUNT,
        '  defp answer("/count") do\n'
        "    status = if :rand.uniform(2) == 1, do: 501, else: 200\n"
        "    text(status, Integer.to_string(Counter.Store.count()))\n  end\n",
    )  # fmt: skip
    project.commit()
    assert "is watched for 9m" in project.push()
    assert (server.status()["release"], server.status()["pid"]) == ("v2", pid)
    unit = until(lambda: units(server), "the unit")
    server.box.exec(["systemctl", "kill", "--signal=KILL", *unit])
    until(lambda: units(server) - unit, "another unit", 120)

    def back() -> bool:
        for _ in range(20):
            server.get("/count")
        return bool(server.status()["release"] == "v1")

    until(back, "the release before", 120)
    until(lambda: not units(server), "the end of the watch")
    assert server.status()["pid"] == pid
    assert server.last()["cause"] == "watch"
    undone = [entry for entry in server.json("audit", "shop") if entry["action"] == "undo"]
    assert "requests failed" in undone[0]["detail"]


def units(server: Server) -> set[str]:
    """The units that watch releases of the app."""
    shown = server.box.exec(
        ["systemctl", "list-units", "--plain", "--no-legend", "gatling-watch-shop.*"]
    ).stdout
    return {line.split()[0] for line in shown.splitlines()}
