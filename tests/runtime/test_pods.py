"""A release as pods: what its instances are started with on a cluster."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.platform.kubernetes import objects
from gatling.project import settings
from gatling.runtime import pods
from gatling.state.platforms import Connection, Platform, Store
from tests.runtime.test_spec import APP, release

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "x"  # noqa: S105 (of no registry)
PLATFORM = Platform(
    name="prod", cluster=Connection(server="https://c", namespace="team"),
    registry=Store(place="r.example.com/team", user="ann", password=SECRET), added_at="",
)  # fmt: skip
MINE = structs.replace(release(), image="r.example.com/team/shop@sha256:0")


def test_pods_have_the_settings_of_the_release() -> None:
    own = {"limits.memory": "512M", "instance.stop": "20", "instance.drain": "5"}
    made = pods.described(APP, MINE, settings.parse(own), PLATFORM, 12)
    assert (made.namespace, made.image, made.deployment) == ("team", MINE.image, 12)
    assert made.command == (f"bin/{MINE.name}", "start")
    assert (made.limits.memory, made.stop_seconds, made.drain_seconds) == ("512M", 20, 5)
    assert made.pulls
    without = structs.replace(PLATFORM, registry=Store(place="r.example.com/team"))
    assert not pods.described(APP, MINE, settings.parse({}), without, 12).pulls


def test_the_config_of_the_release_counts_over_suggestions_and_not_over_ports() -> None:
    config = {"PHX_HOST": "own.example.com", "ERL_ZFLAGS": "+P 1000", "SECRET": SECRET, "PORT": "1"}
    env = pods.environment(
        APP, structs.replace(MINE, config=config), settings.parse({}), PLATFORM
    )  # fmt: skip
    assert env["PHX_HOST"] == "own.example.com"
    assert env["SECRET"] == SECRET
    assert env["ERL_ZFLAGS"].startswith("+P 1000 -start_epmd false -erl_epmd_port 4370")
    assert env["DNS_CLUSTER_QUERY"] == f"nodes-{APP.name}.team.svc.cluster.local"
    made = pods.described(APP, MINE, settings.parse({}), PLATFORM, 12)
    assert "PORT" not in objects.config(made, env)["data"]


def test_distribution_is_over_tls_where_that_is_set() -> None:
    own = settings.parse({"cluster.tls": "true"})
    env = pods.environment(APP, MINE, own, PLATFORM)
    flags = "-proto_dist inet_tls -ssl_dist_optfile /etc/gatling/distribution/options.config"
    assert env["ERL_ZFLAGS"].endswith(flags)
    made = pods.described(APP, MINE, own, PLATFORM, 12)
    plain = pods.described(APP, MINE, settings.parse({}), PLATFORM, 12)
    assert (made.distribution, plain.distribution) == (f"distribution-{APP.name}", "")
    assert made.config != plain.config, "pods of each kind have an environment of their own"


def test_the_config_has_another_name_when_it_has_other_content() -> None:
    """A Secret that pods use cannot be changed, and a new domain changes PHX_HOST."""
    other = structs.replace(APP, domains=("new.example.com",))
    one, two, again = (
        pods.described(app, MINE, settings.parse({}), PLATFORM, number).config
        for app, number in ((APP, 1), (other, 2), (APP, 3))
    )
    assert one == again != two
    assert one.startswith(f"{APP.name}-v7-")


def test_the_health_check_names_the_first_domain() -> None:
    app = structs.replace(APP, domains=("shop.example.com", f"{APP.name}.localhost"))
    asked = pods.health(app, settings.parse({"health.path": "/up"}))
    assert (asked.path, asked.host) == ("/up", "shop.example.com")


def test_the_words_of_a_one_off_command() -> None:
    made = pods.described(APP, MINE, settings.parse({}), PLATFORM, 0)
    assert pods.words(made, ("migrate", "x"), program=True) == ("bin/migrate", "x")
    assert pods.words(made, ("eval", "1"), program=False) == (f"bin/{MINE.name}", "eval", "1")


def test_a_command_beside_an_instance_leaves_the_port_to_it(tmp_path: Path) -> None:
    made = pods.described(APP, MINE, settings.parse({}), PLATFORM, 12)
    shell, option, _, *words = pods.beside(made, ("rpc", "$(X) a b"))
    assert words == ["sh", "", f"/gatling/current/bin/{MINE.name}", "rpc", "$(X) a b"]
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$$ $ERL_ZFLAGS $TERM $*"\n')
    program.chmod(0o755)
    for term in ("", "xterm"):
        script = pods.beside(made, ("rpc",), term=term)[2]
        said = subprocess.run(
            [shell, option, script, "sh", term, program, "rpc", "$(X)"],
            env={"ERL_ZFLAGS": "+P 9", "TERM": "dumb"}, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        process, _, rest = said[-1].partition(" ")
        assert said[:-1] == [process]
        assert rest == f"+P 9 -dist_listen false {term or 'dumb'} rpc $(X)"
