"""On a server callbacks run as the app's user, in the sandbox of its builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import output_of, until

if TYPE_CHECKING:
    from tests.server.server import Checkout, Server

CALLBACKS = """
defmodule Shop.Callbacks do
  import Gatling.Bash

  def before_mix_compile(_), do: Process.put(:seen, "kept")

  def after_NAME(env) do
    {user, 0} = bash("id", ["-un"], into: "")
    log("user #{String.trim(user)}, #{Process.get(:seen)}, #{env.release} on #{env.port}")
    log("home: #{inspect(File.ls("/var/lib/gatling/home"))}")
    log("releases: #{inspect(File.touch(Path.join(env.deploy_dir, "mine")))}")
    log("build: #{inspect(File.touch(Path.join(env.build_dir, "mine")))}")
  end

  def before_NAME(_), do: if(System.get_env("SLOW"), do: bash("sleep", ["600"]))
end
"""


@pytest.fixture(scope="module")
def shop(server: Server) -> Checkout:
    project = server.let_in("cay", "callbacks").project("callbacks")
    project.write("domains", "www.callbacks.example\n")
    project.write("deploy.exs", CALLBACKS.replace("NAME", "configure_nginx"))
    project.write("upgrade.exs", CALLBACKS.replace("NAME", "upgrade_service"))
    project.write(".gatling/hooks/after_health_check", "#!/bin/sh\necho hook of $(id -un)\n")
    (project.directory / ".gatling/hooks/after_health_check").chmod(0o755)
    project.commit()
    return project


def units(server: Server) -> str:
    """Programs of the app that are under way."""
    return server.box.exec(["systemctl", "list-units", "--plain", "--no-legend",
                            "gatling-build-callbacks.*"]).stdout.strip()  # fmt: skip


def test_callbacks_are_the_apps_user(server: Server, shop: Checkout) -> None:
    for number in (1, 2):  # deployed, upgraded
        shop.title(f"{number}")
        text = shop.push()
        port = server.status("callbacks")["port"]
        assert f"user gatling-callbacks, kept, v{number} on {port}" in text
        assert "home: {:error, :enoent}" in text
        assert "releases: {:error, :erofs}" in text
        assert "build: :ok" in text
        assert ("hook of gatling-callbacks" in text) == (number == 1)  # the second one is hot
        until(lambda: not units(server), "the end of the callbacks' unit")
    assert server.get("/", host="www.callbacks.example").status == 200


def test_a_killed_deployment_leaves_no_unit(server: Server, shop: Checkout) -> None:
    person = shop.person
    if "callbacks" not in [app["app"] for app in server.json("apps")]:
        shop.push()
    person.run("config", "set", "callbacks", "SLOW=1")
    live = server.status("callbacks")["release"]
    shop.title("slow")
    with server.until_step("before_upgrade_service", "callbacks"):
        push = shop.start_push()
    assert units(server)
    server.box.exec(["systemctl", "kill", "--signal=KILL", "gatling-push-callbacks.*"])
    output_of(push, None)
    until(lambda: not units(server), "the end of the callback's unit")
    person.run("start", "callbacks")  # recovers the app
    assert person.json("status", "callbacks")["release"] == live
    assert server.last("callbacks")["outcome"] == "interrupted"
    assert server.get("/", host="www.callbacks.example").status == 200
