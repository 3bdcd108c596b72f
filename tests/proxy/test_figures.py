"""The numbers of requests: from lines, from windows of rotated logs, and as a real nginx counts."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatling.proxy import figures, log_rotation, request_log
from gatling.proxy.log_rotation import LOG
from gatling.proxy.route import point_at
from gatling.proxy.site import Site
from tests.conftest import until
from tests.proxy.bench import App, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEGIN = 1_700_000_000


def line(
    after: float, app: str = "shop", status: int = 200, took: str = "0.020",
    upstream: str = "0.012", port: int = 20000,
) -> bytes:  # fmt: skip
    return f"{BEGIN + after:.3f} {app} {port} {status} {took} {upstream}\n".encode()


def count(*lines: bytes, since: float = 0, until: float = 100, **only: object) -> figures.Figures:
    found = figures.count([b"".join(lines)], BEGIN + since, BEGIN + until, **only)  # type: ignore[arg-type]
    return found.get("shop", figures.Figures())


def test_responses_that_nginx_gave_itself_can_be_left_out() -> None:
    lines = b"".join(
        b"1000000000.000 shop 20001 %d 0.001 %s\n" % line
        for line in [(200, b"0.001"), (200, b"-"), (404, b"-"), (429, b"-"), (499, b"-"),
                     (502, b"-"), (500, b"0.010")]
    )  # fmt: skip
    everything = figures.count([lines], 0, 2e9)["shop"]
    assert everything.requests == 7
    of_app = figures.count([lines], 0, 2e9, own=False)["shop"]
    assert of_app.statuses == {200: 1, 499: 1, 502: 1, 500: 1}


def test_requests_are_counted_by_status_and_latency() -> None:
    found = count(
        line(1), line(2, upstream="0.003"), line(3, status=404), line(4, status=502, upstream="-"),
        line(5, status=101, took="3600.000"), line(6, app="blog"),
    )  # fmt: skip
    assert found.statuses == {200: 2, 404: 1, 502: 1, 101: 1}
    assert (found.requests, found.upgraded, found.failed, found.error_rate) == (4, 1, 1, 0.25)
    assert found.latencies == {12: 2, 3: 1, 20: 1}
    assert [found.in_class(digit) for digit in (1, 2, 3, 4, 5)] == [0, 2, 0, 1, 1]


def test_a_window_has_its_begin_and_not_its_end() -> None:
    assert count(line(9.999), line(10), line(19.999), line(20), since=10, until=20).requests == 2


def test_requests_of_one_slot_can_be_counted_alone() -> None:
    lines = line(1), line(2, port=20001), line(3, port=20001)
    assert count(*lines, port=20001, app="shop").requests == 2


def test_the_last_answer_of_several_counts_and_none_is_the_whole_request() -> None:
    assert count(line(1, upstream="5.000, 0.007")).latencies == {7: 1}
    assert count(line(1, upstream="5.000 : -")).latencies == {5000: 1}
    assert count(line(1, upstream="-")).latencies == {20: 1}


def test_lines_of_another_form_are_skipped() -> None:
    broken = (
        b"x\n", b"\n", b"\xff\xfe\n", b"1700000001.000 shop 20000 200\n",
        b"1700000001.000 Shop 20000 200 0.001 -\n", b"1700000001.000 shop 20000 999 0.001 -\n",
        b"1700000001.000 shop 20000 200 99999999999999999999.000 -\n", b" " * 100_000 + b"\n",
    )  # fmt: skip
    assert count(*broken, line(1)).statuses == {200: 1}
    assert count(line(1, upstream="999999999.000")).latencies == {figures.MAX_MS: 1}


@given(st.lists(st.integers(0, 20_000), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_latency_that_so_many_did_not_exceed(took: list[int], share: float) -> None:
    found = figures.Figures(latencies={ms: took.count(ms) for ms in took})
    value = found.quantile(share)
    assert value in took
    assert sum(ms <= value for ms in took) >= share * len(took)
    assert sum(ms < value for ms in took) < share * len(took) + 1e-9
    counts = [sum(ms <= bound for ms in took) for bound in figures.BOUNDS]
    assert found.histogram() == [*counts, len(took)]


@given(st.lists(st.integers(0, 9999), min_size=1), st.floats(0.01, 1))
def test_an_estimate_lies_in_the_range_of_the_quantile(took: list[int], share: float) -> None:
    bounds = [0, *figures.BOUNDS]
    ranges = [sum(low <= ms < high for ms in took) for low, high in itertools.pairwise(bounds)]
    estimate = figures.estimated([*ranges, 0], share)
    exact = figures.Figures(latencies={ms: took.count(ms) for ms in took}).quantile(share)
    assert exact is not None
    at = bisect.bisect_right(bounds, exact) - 1
    assert bounds[at] - 0.1 <= estimate <= bounds[at + 1] + 0.1
    assert figures.estimated([*[0] * 11, 3], share) == figures.BOUNDS[-1]
    assert figures.estimated([0] * 12, share) == 0


def test_nothing_has_no_quantile_and_no_error_rate() -> None:
    assert (figures.Figures().quantile(0.95), figures.Figures().error_rate) == (None, None)


def test_figures_are_added() -> None:
    whole = figures.Figures({200: 1}, {5: 1})
    whole.add(figures.Figures({200: 2, 500: 1}, {5: 1, 9: 2}))
    assert (whole.statuses, whole.latencies) == ({200: 3, 500: 1}, {5: 2, 9: 2})


# ---------------------------------------------------------------- the log


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """100,000 requests in 1000 s, the oldest of which are in rotated files."""
    log = tmp_path / "requests.log"
    lines = [line(n / 100) for n in range(100_000)]
    log_rotation.numbered(log, 2).write_bytes(b"".join(lines[:30_000]))
    log_rotation.numbered(log, 1).write_bytes(b"".join(lines[30_000:60_000]))
    log.write_bytes(b"".join(lines[60_000:]))
    return log


@pytest.mark.parametrize(
    ("since", "until"),
    [(0, 1000), (100, 101), (299.5, 300.5), (0, 299), (590, 610), (950, 2000), (999.99, 1000)],
)
def test_a_window_is_read_whole(log: Path, since: float, until: float) -> None:
    window = request_log.read(log, BEGIN + since, BEGIN + until, app="shop")
    assert window.since == BEGIN + since
    assert window.apps["shop"].requests == round((min(until, 1000) - since) * 100)


def test_lines_that_a_worker_held_back_are_found(log: Path) -> None:
    with log.open("ab") as file:
        file.write(line(1001.5) + line(1000.2) + line(1002))
    window = request_log.read(log, BEGIN + 1000.1, BEGIN + 1001)
    assert window.apps["shop"].requests == 1


def test_a_window_that_begins_before_the_log_says_so(log: Path) -> None:
    window = request_log.read(log, BEGIN - 500, BEGIN + 10)
    assert (window.since, window.apps["shop"].requests, window.cut) == (BEGIN, 1000, False)


def test_no_more_is_read_than_the_limit_and_the_window_says_so(log: Path) -> None:
    limit = 45_000 * len(line(0))
    window = request_log.read(log, BEGIN, BEGIN + 1000, limit=limit)
    assert window.cut
    assert window.since == pytest.approx(BEGIN + 550, abs=0.1)
    assert window.apps["shop"].requests == pytest.approx(45_000, abs=10)


def test_a_small_window_of_a_large_log_costs_little(log: Path) -> None:
    began = time.process_time()
    for _ in range(20):
        request_log.read(log, BEGIN + 700, BEGIN + 700.1)
    assert time.process_time() - began < 1  # all of it takes 0.2 s each time


def test_without_a_log_there_are_no_requests(tmp_path: Path) -> None:
    assert request_log.read(tmp_path / "none", 1, 2) == (1, 2, {}, False)
    (tmp_path / "empty").touch()
    assert request_log.read(tmp_path / "empty", 1, 2) == (1, 2, {}, False)


def test_a_log_is_rotated_at_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rotation, "ROTATE_BYTES", 100)
    log = tmp_path / "requests.log"
    assert not log_rotation.is_due(log)
    for n in range(6):
        log.write_bytes(b"%d" % n * 100)
        assert log_rotation.is_due(log)
        log_rotation.rotate(log, lambda: log_rotation.create(log, 0o640))
        assert log.stat().st_mode & 0o777 == 0o640
    kept = {file.name: file.read_bytes()[:1] for file in tmp_path.iterdir()}
    assert kept == {"requests.log": b"", "requests.log.1": b"5", "requests.log.2": b"4",
                    "requests.log.3": b"3"}  # fmt: skip


# ---------------------------------------------------------------- nginx


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, int]]:
    bench, app = Bench(tmp_path_factory.mktemp("nginx")), App()
    sites = []
    for name in ("shop", "blog"):
        point_at(bench.root / name, 1, mode=0o755)
        ports = {1: app.port, 2: app.port}
        sites.append(Site(name, (f"{name}.example",), ports, bench.root / name))
    bench.configure(sites)
    with bench.running() as nginx, contextlib.closing(app):
        yield bench, nginx.pid


def counted(bench: Bench, since: float, number: int) -> dict[str, figures.Figures]:
    def read() -> dict[str, figures.Figures]:
        return request_log.read(bench.root / LOG, since, time.time()).apps

    until(lambda: sum(sum(each.statuses.values()) for each in read().values()) >= number, "lines")
    return read()


def test_a_real_nginx_counts_requests_of_apps_alone(bench: tuple[Bench, int]) -> None:
    nginx, _ = bench
    since = time.time()
    for _ in range(3):
        assert nginx.get("/")[0] == 200
    assert nginx.get("/hangup", host="blog.example")[0] == 502
    assert nginx.get("/", host="nobody.example")[0] == 404
    assert nginx.get("/", source="127.0.0.1", User_Agent="gatling-probe")[0] == 200
    # any client can call itself that
    assert nginx.get("/", source="127.0.0.2", User_Agent="gatling-probe")[0] == 200
    nginx.raw("GET /upgrade HTTP/1.1\nHost: shop.example\nConnection: upgrade\n"
              "Upgrade: websocket\n\n")  # fmt: skip
    nginx.raw("GET / HTTP/1.1\nHost: shop.example\nUser-Agent: x\\n1700000001.000 y\n"
              "Connection: close\n\n")  # fmt: skip
    found = counted(nginx, since, 7)
    assert found["shop"].statuses == {200: 5, 101: 1}
    assert found["blog"].statuses == {502: 1}
    assert found.keys() == {"shop", "blog"}


def test_no_request_is_lost_while_the_log_is_rotated(bench: tuple[Bench, int]) -> None:
    nginx, master = bench
    since, log = time.time(), nginx.root / LOG
    for n in range(30):
        assert nginx.get("/")[0] == 200
        if n % 10 == 5:
            before = log.stat().st_ino
            log_rotation.rotate(log, lambda: log_rotation.create(log, 0o600))
            os.kill(master, signal.SIGUSR1)
            assert log.stat().st_ino != before
    assert counted(nginx, since, 30)["shop"].statuses == {200: 30}
