"""The prober: it counts what a client would notice, and nothing else."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

from msgspec import structs

from gatling.deploy.evidence import health
from gatling.deploy.evidence import prober as probe
from gatling.deploy.evidence.prober import SLOW_PAUSE_SECONDS, HeldRequest, Prober, Proof
from tests.conftest import until
from tests.deploy.evidence.conftest import Server, raw_server
from tests.places import local

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    import pytest


def prober(port: int, path: str = "/up") -> Prober:
    return Prober(local(port), "shop.example.com", path)


def ask(port: int, enough: Callable[[Proof], bool]) -> Proof:
    """What has been seen when it is enough."""
    asking = prober(port)
    with asking.asking():
        until(lambda: enough(asking.proof), "enough requests")
    return asking.proof


def test_every_request_is_counted_and_all_go_over_one_connection(server: Server) -> None:
    proof = ask(server.port, lambda seen: seen.requests >= 10)
    assert proof.requests == len(server.requests) >= 10
    assert (proof.failed, proof.first_failure) == (0, "")
    assert 0 < proof.longest_ms < 10_000
    assert server.connections == 1
    path, headers = server.requests[-1]
    assert (path, headers["Host"]) == ("/up", "shop.example.com")


def test_one_failure_among_many_is_counted_and_named(server: Server) -> None:
    server.statuses = [200, 200, 503, 200]
    proof = ask(server.port, lambda seen: seen.requests >= 6)
    assert (proof.failed, proof.first_failure) == (1, "status 503")
    assert f"1 of {proof.requests} requests failed (the first: status 503)" in str(proof)


def test_the_first_failure_is_the_one_that_is_told(server: Server) -> None:
    server.statuses = [500, 502, 200]
    proof = ask(server.port, lambda seen: seen.requests >= 4)
    assert (proof.failed, proof.first_failure) == (2, "status 500")


def test_what_the_app_itself_refuses_is_no_failure(server: Server) -> None:
    server.statuses = [301, 404, 499, 200]
    assert ask(server.port, lambda seen: seen.requests >= 6).failed == 0


def test_an_app_that_sends_to_https_is_asked_as_by_https(server: Server) -> None:
    server.wants_https = True
    server.statuses = [200, 500, 200]
    proof = ask(server.port, lambda seen: seen.requests >= 5)
    assert (proof.failed, proof.first_failure, proof.https) == (1, "status 500", True)
    assert "sent as if over HTTPS" in str(proof)
    assert len(server.requests) == proof.requests + 1


def test_when_it_has_seen_enough_it_asks_now_and_then(server: Server) -> None:
    asking = prober(server.port)
    with asking.asking():
        until(lambda: asking.proof.requests >= 5, "some requests")
        asking.slow_down()
        started, before = time.monotonic(), asking.proof.requests
        until(lambda: asking.proof.requests >= before + 3, "more requests")
        assert time.monotonic() - started > 1.8 * SLOW_PAUSE_SECONDS


def test_a_kept_connection_that_is_closed_while_idle_is_no_failure(server: Server) -> None:
    server.closes_after_each = True
    proof = ask(server.port, lambda seen: seen.requests >= 6)
    assert proof.failed == 0
    assert server.connections >= 6
    assert proof.requests == len(server.requests)


def test_an_answer_that_is_missing_is_a_failure(server: Server) -> None:
    # first on a new connection; then on a kept one, where it also fails when asked again
    server.statuses = [0, 200, 0, 0, 200]
    proof = ask(server.port, lambda seen: seen.requests >= 5)
    assert (proof.failed, proof.first_failure) == (2, health.NO_ANSWER)


def test_nothing_listens(closed_port: int) -> None:
    proof = ask(closed_port, lambda seen: seen.requests >= 3)
    assert proof.failed == proof.requests
    assert proof.first_failure == "the connection failed: Connection refused"


def test_a_slow_answer_shows_in_the_longest_wait() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        time.sleep(0.25)  # what is measured
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.close()

    with raw_server(serve) as port:
        proof = ask(port, lambda seen: seen.requests >= 1)
    assert proof.failed == 0
    assert proof.longest_ms >= 250


def test_what_is_proven_begins_with_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "FIRST_SECONDS", 60)  # on a slow machine, too

    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        time.sleep(0.25)  # longer than a thread needs to begin
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.close()

    with raw_server(serve) as port:
        asking = prober(port)
        with asking.asking():
            assert asking.proof.requests >= 1


def test_an_app_that_does_not_answer_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "FIRST_SECONDS", 0.05)
    begun = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        begun.wait(30)
        connection.close()

    with raw_server(serve) as port:
        asking = prober(port)
        with asking.asking():
            assert asking.proof.requests == 0
            begun.set()
        assert asking.proof.failed >= 1


def test_an_answer_that_breaks_off_is_a_failure() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.close()

    with raw_server(serve) as port:
        proof = ask(port, lambda seen: seen.requests >= 1)
    assert proof.failed == proof.requests
    assert proof.first_failure == "it closed the connection in the middle of its answer"


def test_it_goes_on_a_little_after_the_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "AFTER_SECONDS", 2)  # on a slow machine, too
    asking = prober(server.port)
    with asking.asking():
        until(lambda: asking.proof.requests, "the first request")
        at_the_end = asking.proof.requests
    assert asking.proof.requests > at_the_end
    assert asking.proof.requests == len(server.requests)


def test_it_keeps_the_time_of_each_request(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SAMPLES", 5)
    asking = prober(server.port)
    asking.start()
    until(lambda: asking.proof.requests > 7, "some requests")
    asking.stop()
    samples = asking.proof.samples
    assert len(samples) == 5
    assert [one.at_ms for one in samples] == sorted(one.at_ms for one in samples)
    assert all(one.took_ms > 0 and not one.failed for one in samples)
    assert "samples" not in asking.proof.json()


def test_a_proof_is_recorded_as_json() -> None:
    recorded = json.loads(json.dumps(Proof(10, 1, 12.5, "status 502").json()))
    assert recorded.items() >= {
        "requests": 10, "failed": 1, "longest_ms": 12.5, "first_failure": "status 502"
    }.items()  # fmt: skip


def test_a_proof_in_words() -> None:
    proof = "0 of 10 requests failed, the slowest took 13 ms"
    assert str(Proof(10, 0, 12.6)) == proof
    assert str(Proof(10, 0, 12.6, cut=2)) == f"{proof}, 2 connections closed after the drain"
    assert str(Proof(10, 0, 12.6, processes=0, suspended_ms=0.0)) == proof
    hot = Proof(10, 0, 12.6, processes=3, suspended_ms=4.25)
    converted = f"{proof}, 3 processes converted in 4.2 ms"
    assert str(hot) == converted  # nobody was connected
    paused = structs.replace(hot, paused_ms=24.4)
    assert str(paused) == f"{converted}, new requests paused for 24 ms"
    # two of five ended by themselves, and are not counted as cut
    some = structs.replace(hot, connections=5, kept=2, lost=1)
    assert str(some) == f"{converted}, 2 connections kept, 1 connection cut"


def test_a_held_request_is_answered_when_its_rest_has_come(server: Server) -> None:
    with HeldRequest(local(server.port), "shop.example.com", "/up") as held:
        assert server.requests == []
        assert held.finish() == ""
    path, headers = server.requests[-1]
    assert (path, headers["Host"]) == ("/up", "shop.example.com")


def test_a_held_request_is_in_the_picture_and_not_the_slowest(server: Server) -> None:
    asking = prober(server.port)
    with asking.asking(), HeldRequest(local(server.port), "shop.example.com", "/up") as held:
        seen = asking.proof.requests
        until(lambda: asking.proof.requests > seen + 5, "requests beside it")
        asking.saw(held.finish(), held_since=held.began)
    (one,) = (each for each in asking.proof.samples if each.held)
    others = [each for each in asking.proof.samples if not each.held]
    assert one.at_ms >= others[0].at_ms
    assert one.took_ms > 50  # five pauses of the prober
    assert asking.proof.samples == tuple(sorted(asking.proof.samples))
    assert asking.proof.longest_ms == max(each.took_ms for each in others)


def test_what_becomes_of_a_held_request(server: Server) -> None:
    server.statuses = [500]
    with HeldRequest(local(server.port), "shop.example.com", "/up") as held:
        assert held.finish() == "held request: status 500"
    with HeldRequest(local(1), "shop.example.com", "/up") as held:
        assert held.finish() == "held request: no connection"


def test_a_held_request_whose_connection_is_lost() -> None:
    def close(connection: socket.socket) -> None:
        connection.recv(1)
        connection.close()

    with raw_server(close) as port, HeldRequest(local(port), "shop.example.com", "/up") as held:
        assert held.finish().startswith("held request: ")


def test_what_is_seen_otherwise_counts_as_well(server: Server) -> None:
    asking = prober(server.port)
    asking.saw("")
    asking.saw("held request: status 500")
    assert (asking.proof.requests, asking.proof.failed) == (2, 1)
    assert asking.proof.first_failure == "held request: status 500"
