"""Requests for objects, and answers of clusters that are none."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from gatling.errors import ClusterFailed
from gatling.platform.kubernetes.api import Api, timed
from gatling.platform.kubernetes.client import Client
from gatling.state.platforms import Connection
from tests.images.registries import Asked, Reply, serving
from tests.platform.kubernetes.test_check import JSON, TOKEN, listed, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-shop"}}


@contextlib.contextmanager
def api(answer: Callable[[Asked], Reply]) -> Iterator[tuple[Api, list[Asked]]]:
    with serving(answer) as server:
        connection = Connection(server=f"http://{server.host}", namespace="shop", token=TOKEN)
        with Client(connection) as client:
            yield Api(client), server.asked


def test_objects_are_applied_as_gatling_s() -> None:
    with api(lambda asked: Reply(200, asked.body, JSON)) as (opened, asked):
        assert opened.apply(SERVICE) == SERVICE
    (one,) = asked
    path, _, question = one.path.partition("?")
    assert (one.method, path) == ("PATCH", "/api/v1/namespaces/shop/services/web-shop")
    assert set(question.split("&")) == {"fieldManager=gatling", "force=true"}
    assert one.headers["Content-Type"] == "application/apply-patch+yaml"


@pytest.mark.parametrize("broken", [1, 2])
def test_a_request_whose_connection_breaks_is_sent_once_more(broken: int) -> None:
    left = [broken]

    def answer(asked: Asked) -> Reply:
        left[0] -= 1
        return Reply(200, None if left[0] >= 0 else asked.body, JSON)

    with api(answer) as (opened, asked):
        if broken == 1:
            assert opened.apply(SERVICE) == SERVICE
        else:
            with pytest.raises(ClusterFailed) as failed:
                opened.apply(SERVICE)
            assert failed.value.reason == "unreachable"
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_objects_are_found_by_labels_and_fields() -> None:
    one = {"metadata": {"name": "shop-1"}}
    with api(lambda _: listed("Pod", [one])) as (opened, asked):
        assert opened.every("Pod", {"a/b": "c", "d": "e"}, "x=y") == [one]
    assert "labelSelector=a%2Fb%3Dc%2Cd%3De" in asked[0].path
    assert "fieldSelector=x%3Dy" in asked[0].path


def test_what_is_not_there_is_no_error_where_that_is_an_answer() -> None:
    with api(lambda _: status(404, "not found")) as (opened, _):
        assert opened.find("Deployment", "shop") is None
        opened.remove("Deployment", "shop")
        assert opened.log("shop-1") == []
        with pytest.raises(ClusterFailed, match="404"):
            opened.every("Deployment", {})


def test_the_log_of_a_container_that_has_not_started_is_empty() -> None:
    with api(lambda _: status(400, "container is waiting to start")) as (opened, asked):
        assert opened.log("shop-1", lines=3, since="2026-01-31T12:00:00Z", previous=True) == []
    for part in ("tailLines=3", "container=app", "previous=true", "timestamps=true"):
        assert part in asked[0].path


def test_only_lines_of_the_container_are_in_its_log() -> None:
    """A kubelet writes into the answer that it does not find the file of the log."""
    said = b'2026-01-31T12:00:00.1Z one\nfailed to try resolving symlinks in path "/var/log"\n'
    with api(lambda _: Reply(200, said + b"2026-01-31T12:00:01+00:00 two \x85 three\n")) as (
        opened, _,
    ):  # fmt: skip
        assert opened.log("shop-1") == [
            "2026-01-31T12:00:00.1Z one", "2026-01-31T12:00:01+00:00 two � three",
        ]  # fmt: skip


def test_times_of_lines_sort() -> None:
    lines = ["2026-01-31T12:00:00.49Z a b", "2026-01-31T12:00:00.491Z c", "2026-01-31T12:00:00Z d"]
    assert [text for _, text in sorted(map(timed, lines))] == ["d", "a b", "c"]
    assert timed("2026-01-31T12:00:00.5+00:00 e")[0] == "2026-01-31T12:00:00.5"


def test_a_refusal_names_the_object_and_the_words_of_the_cluster() -> None:
    with (
        api(lambda _: status(422, "metadata.name: Invalid value")) as (opened, _),
        pytest.raises(ClusterFailed, match="to apply the Service web-shop") as failed,
    ):
        opened.apply(SERVICE)
    assert "metadata.name: Invalid value" in failed.value.what
    assert failed.value.reason == "refused"


@pytest.mark.parametrize("body", [b"<html>", b"[]", json.dumps("x").encode(), b"[" * 100_000])
def test_what_is_no_answer_of_kubernetes(body: bytes) -> None:
    with api(lambda _: Reply(200, body)) as (opened, _):
        with pytest.raises(ClusterFailed) as failed:
            opened.find("Deployment", "shop")
        assert failed.value.reason == "malformed"


def test_a_list_without_items_is_empty() -> None:
    with api(lambda _: Reply(200, b'{"items": [1, {"a": 2}, null]}', JSON)) as (opened, _):
        assert opened.every("Pod", {}) == [{"a": 2}]
    with api(lambda _: Reply(200, b'{"items": null}', JSON)) as (opened, _):
        assert opened.every("Pod", {}) == []
