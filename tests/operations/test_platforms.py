"""Clusters that are added, listed, checked and removed by command."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.images.registries import LOGIN, basic, running, serving
from tests.platform.kubernetes.test_check import Cluster
from tests.platform.kubernetes.test_kubeconfig import TOKEN, config

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import World


def kubeconfig(server: str) -> str:
    found = config(cluster={"server": f"http://{server}"}, context={"namespace": "shop"})
    del found["clusters"][0]["cluster"]["certificate-authority-data"]
    return str(yaml.safe_dump(found))


def test_a_cluster_comes_and_goes(world: World, tmp_path: Path) -> None:
    with (
        serving(Cluster()) as cluster,
        running(tmp_path / "registry", auth=basic(tmp_path / "auth")) as registry,
    ):
        (tmp_path / "kubeconfig").write_text(kubeconfig(cluster.host))
        (tmp_path / "password").write_text(f"{LOGIN.password}\n")
        place = f"{registry.host}/team"
        words = ["--kubeconfig", str(tmp_path / "kubeconfig"), "--registry", place]
        login = ["--registry-user", LOGIN.user, "--registry-password", str(tmp_path / "password")]
        said = world.run("platform", "add", "prod", *words, *login)
        assert f"Images can be pushed to {place}/gatling-check." in said
        assert "All rights in the namespace shop are there." in said
        assert "already" in world.run("platform", "add", "prod", *words, *login, ok=False)
        again = world.run("platform", "add", "two", *words, "--registry-user", LOGIN.user,
                         stdin=f"{LOGIN.password}\n")  # fmt: skip
        assert "Images can be pushed" in again
        (one, _) = world.json("platform", "list")
        assert (one["name"], one["namespace"], one["registry"]) == ("prod", "shop", place)
        assert "prod" in world.run("platform", "list")
        assert world.json("platform", "check", "prod")["findings"][-1]["state"] == "ok"
    shown = json.dumps(one) + world.run("platform", "list") + world.run("audit")
    assert "platform add" in shown
    assert TOKEN not in shown.replace(one["added_at"], "")
    assert LOGIN.password not in shown
    assert stat.S_IMODE((world.home / "state.db").stat().st_mode) == 0o600
    gone = world.try_run("platform", "check", "prod")
    assert gone.returncode == 8
    assert "cannot be reached: Connection refused" in gone.stdout
    world.run("platform", "remove", "prod")
    assert "no platform prod" in world.run("platform", "check", "prod", ok=False)


def test_a_cluster_that_does_not_answer_is_not_added(world: World) -> None:
    said = world.run("platform", "add", "prod", stdin=kubeconfig("127.0.0.1:1"), ok=False)
    assert "cannot be reached" in said
    assert world.json("platform", "list") == []


def test_a_cluster_that_lacks_something_is_added_and_says_what(world: World) -> None:
    with serving(Cluster(denied="secrets")) as cluster:
        said = world.run("platform", "add", "prod", stdin=kubeconfig(cluster.host))
        assert "FAILED     rights: Rights are missing in the namespace shop: get" in said
        assert "FAILED     registry: No registry is named" in said
        assert world.try_run("platform", "check", "prod").returncode == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["UP"], "cannot be a platform's name"),
        (["prod", "--registry", "shop"], "not the name of a repository"),
        (["prod", "--registry-user", "ann"], "Name the registry as well"),
        (["prod", "--registry", "a.example/x", "--registry-user", "ann"], "standard input, where"),
        (["prod", "--context", "z"], "no context 'z'"),
        (["prod", "--namespace", "A"], "cannot be a namespace"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_made(world: World, words: list[str], said: str) -> None:
    answer = world.try_run("platform", "add", *words, stdin=kubeconfig("127.0.0.1:1"))
    assert said in answer.stdout
    assert answer.returncode == 3
    assert not world.home.exists()
