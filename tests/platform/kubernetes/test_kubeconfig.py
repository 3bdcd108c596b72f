"""Kubeconfigs: the connection of a context, and all that Gatling neither runs nor reads."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gatling.errors import InvalidInput
from gatling.platform.kubernetes import kubeconfig
from gatling.state.platforms import Connection
from tests.proxy.authority import ROOT, certificate

TOKEN = "abc"  # noqa: S105 (of no cluster)
PEM = base64.b64encode(ROOT.pem.encode()).decode()


def config(**changes: Any) -> dict[str, Any]:
    """A kubeconfig whose cluster or user has further entries."""
    cluster = {"server": "https://cluster.example.com:6443", "certificate-authority-data": PEM}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster | changes.get("cluster", {})}],
        "users": [
            {"name": "u", "user": {"token": TOKEN} | changes.get("user", {})},
            {"name": "other", "user": {"token": f"{TOKEN}2"}},
        ],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u"} | changes.get("context", {})},
            {"name": "y", "context": {"cluster": "c", "user": "other", "namespace": "shop"}},
        ],
        "current-context": changes.get("current", "x"),
    }


def parse(value: dict[str, Any], context: str = "", namespace: str = "") -> Connection:
    return kubeconfig.parse(yaml.safe_dump(value), context, namespace)


def test_the_current_context_or_another_one() -> None:
    found = parse(config())
    assert found == Connection(
        server="https://cluster.example.com:6443", namespace="default", authority=ROOT.pem,
        token=TOKEN,
    )  # fmt: skip
    other = parse(config(), "y")
    assert other.token == f"{TOKEN}2"
    assert parse(config(), "y").namespace == "shop"
    assert parse(config(), "y", "staging").namespace == "staging"


def test_a_client_certificate_in_the_place_of_a_token() -> None:
    mine = certificate(name="gatling")
    found = parse(config(user={
        "token": None,
        "client-certificate-data": base64.b64encode(mine.pem.encode()).decode(),
        "client-key-data": base64.b64encode(mine.key_pem.encode()).decode(),
    }))  # fmt: skip
    assert (found.token, found.certificate, found.key) == ("", mine.pem, mine.key_pem)


@pytest.mark.parametrize(
    ("changes", "said", "hint"),
    [
        ({"user": {"exec": {"command": "aws"}}}, "running a program", "service account"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "provider", "service account"),
        ({"user": {"tokenFile": "/etc/shadow"}}, "token from a file", "service account"),
        ({"user": {"client-key": "/etc/shadow"}}, "names another file", "--flatten"),
        ({"cluster": {"certificate-authority": "/x"}}, "names another file", "--flatten"),
        ({"user": {"username": "a", "password": "b"}}, "password", "service account"),
        ({"user": {"as": "admin"}}, "another user", "service account"),
        ({"cluster": {"insecure-skip-tls-verify": True}}, "does not check", "authority-data"),
        ({"cluster": {"proxy-url": "http://x"}}, "proxy", "proxy-url"),
        ({"cluster": {"tls-server-name": "x"}}, "another server", "name"),
        ({"cluster": {"server": "http://cluster.example.com"}}, "not the address", "https://"),
        ({"cluster": {"server": "https://u:p@cluster.example.com"}}, "not the address", "https://"),
        ({"cluster": {"server": "https://[::1"}}, "not the address", "https://"),
        ({"cluster": {"server": ["https://x"]}}, "not the address", "https://"),
        ({"cluster": {"certificate-authority-data": "%%"}}, "not base64", ""),
        ({"cluster": {"certificate-authority-data": "YWJj"}}, "no PEM", ""),
        ({"user": {"token": "a\r\nX-Evil: 1"}}, "characters that no token has", ""),
        ({"user": {"token": ""}}, "neither a token nor", "service account"),
        ({"context": {"namespace": "../x"}}, "cannot be a namespace", "lower-case"),
        ({"context": {"user": "gone"}}, "has no user 'gone'", "It has u, other"),
        ({"context": {"cluster": "gone"}}, "has no cluster 'gone'", "It has c"),
        ({"current": ""}, "no current context", "--context NAME"),
        ({"current": "z"}, "has no context 'z'", "It has x, y"),
    ],
)  # fmt: skip
def test_what_is_refused_and_what_to_do(changes: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        parse(config(**changes))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "42", "a: [", "clusters: 3", "clusters: [3]", "clusters: []\ncontexts: {}",
        "!!python/object/apply:os.system ['touch /tmp/evil']", "[" * 5000, "x" * (2 << 20),
        "a: &a [x]\nclusters: *a",
        "clusters: []\ncurrent-context: [[1]]",
    ],
)  # fmt: skip
def test_what_is_no_kubeconfig(text: str) -> None:
    with pytest.raises(InvalidInput):
        kubeconfig.parse(text)


@given(st.text(max_size=200))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(InvalidInput):
        kubeconfig.parse(text)
