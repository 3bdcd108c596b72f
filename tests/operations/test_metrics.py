"""The text that Prometheus reads, and the counters in it, which only grow."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from gatling.beam import sight
from gatling.deploy import live_node
from gatling.errors import NodeUnreachable
from gatling.operations import metrics
from gatling.operations.metrics import Sample
from gatling.platform import usage
from gatling.proxy import log_rotation, request_totals
from gatling.proxy.request_totals import Totals
from tests.proxy.test_figures import line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NODE = sight.Numbers(
    otp="27", uptime_ms=9000,
    memory=sight.Memory(100, 40, 30, 60, 5, 4, 10, 20, 15),
    wordsize=8,
    limits=sight.Counts(*(sight.Counted(n, 100 * n) for n in (1, 2, 3, 4))),
    run_queues=3, run_queues_all=4, schedulers=2, utilisation=250, io_utilisation=0,
    reductions=7, context_switches=8, runtime_ms=9, gcs=10, reclaimed_words=11, bytes_in=12,
    bytes_out=13, logger_queue=0,
)  # fmt: skip
SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\} (-?[0-9.e+-]+|\+Inf)'
)


def status(app: str, **changed: Any) -> Any:
    known = {"app": app, "state": "running", "release": "v7", "version": "1.0", "uptime": 10.0,
             "memory": 1000, "cpu_seconds": 5.0, "restarts": 2}  # fmt: skip
    return cast("Any", SimpleNamespace(**known | changed))


def parsed(text: str) -> dict[tuple[str, str], float]:
    """The samples of a text, after a check of the form that Prometheus wants."""
    found, declared = {}, []
    for each in text.splitlines():
        if each.startswith("# TYPE "):
            declared.append(each.split()[2])
            assert each.split()[3] in ("counter", "gauge", "histogram")
        elif not each.startswith("# HELP "):
            match = SAMPLE.fullmatch(each)
            assert match, each
            name = re.sub("_(bucket|sum|count)$", "", match[1])
            assert declared[-1] in (match[1], name)
            assert (match[1], match[2]) not in found
            found[match[1], match[2]] = float(match[3])
    assert len(declared) == len(set(declared))
    return found


def test_every_metric_is_declared_once_for_all_apps() -> None:
    totals = {app: Totals({200: 3, 503: 1}, [*range(12)], 1500) for app in ("blog", "shop")}
    samples = [Sample(status("shop"), NODE), Sample(status("blog", memory=None), None)]
    found = parsed(metrics.text(samples, totals))
    assert found["gatling_app_up", 'app="shop"'] == 1
    assert found["gatling_app_node_reachable", 'app="blog"'] == 0
    assert ("gatling_instance_memory_bytes", 'app="blog"') not in found
    assert found["gatling_instance_cpu_seconds_total", 'app="shop"'] == 5
    assert found["gatling_http_requests_total", 'app="blog",status="503"'] == 1
    bucket = "gatling_http_request_duration_seconds_bucket"
    assert found[bucket, 'app="shop",le="0.005"'] == 0
    assert found[bucket, 'app="shop",le="+Inf"'] == 11
    assert found["gatling_http_request_duration_seconds_sum", 'app="shop"'] == 1.5
    assert found["erlang_vm_memory_bytes_total", 'app="shop",kind="processes"'] == 40
    assert found["erlang_vm_memory_atom_bytes_total", 'app="shop",usage="free"'] == 1
    assert found["erlang_vm_memory_system_bytes_total", 'app="shop",usage="other"'] == 10
    assert found["erlang_vm_process_count", 'app="shop"'] == 1
    assert found["erlang_vm_atom_limit", 'app="shop"'] == 300
    assert found["erlang_vm_scheduler_utilization", 'app="shop"'] == 0.25
    assert found["erlang_vm_statistics_garbage_collection_bytes_reclaimed", 'app="shop"'] == 88


def test_an_os_process_has_the_names_of_the_process_collector() -> None:
    mine = usage.of_program(os.getpid())
    assert mine is not None
    assert mine.files is not None
    assert mine.files > 0
    assert mine.threads >= 1
    assert mine.virtual_memory > 1_000_000
    assert usage.of_program(2**22 + 1) is None
    limited = usage.Program(5_000, 7, None, 1024)
    away = Sample(status("blog", memory=None, cpu_seconds=None, uptime=None), None)
    found = parsed(metrics.text([Sample(status("shop"), NODE, program=limited), away], {}))
    assert found["process_virtual_memory_bytes", 'app="shop"'] == 5_000
    assert found["process_threads_total", 'app="shop"'] == 7
    assert found["process_max_fds", 'app="shop"'] == 1024
    assert found["process_resident_memory_bytes", 'app="shop"'] == 1000
    assert not [name for name, _ in found if name == "process_open_fds"]
    assert not [name for name, own in found if name.startswith("process_") and "blog" in own]


def test_events_are_histograms_by_name() -> None:
    event = sight.Reported("route", ["GET", "/posts/:id"], 6, 1, 90_000, 0, [1, 2, 3, *[0] * 9])
    wait = sight.Reported("query", ["Shop.Repo", 'a"b'], 1, 0, 1000, 500_000, [1, *[0] * 11])
    found = parsed(metrics.text([Sample(status("shop"), NODE, [event, wait])], {}))
    own = 'app="shop",kind="route",name="GET /posts/:id"'
    assert found["gatling_event_failures_total", own] == 1
    buckets = [found["gatling_event_duration_seconds_bucket", f'{own},le="{bound}"']
               for bound in ("0.005", "0.01", "0.025", "+Inf")]  # fmt: skip
    assert buckets == [1, 3, 6, 6]
    assert found["gatling_event_duration_seconds_sum", own] == 0.09
    waited = ("gatling_event_wait_seconds_total", 'app="shop",kind="query",name="Shop.Repo a\\"b"')
    assert found[waited] == 0.5


def test_instances_on_a_cluster_have_a_label_and_their_app_has_one_state() -> None:
    event = sight.Reported("route", ["GET", "/"], 1, 0, 1000, 0, [1, *[0] * 11])
    pods = [Sample(status("shop"), NODE, [event], "shop-a"),
            Sample(status("shop", memory=None), None, (), "shop-b")]  # fmt: skip
    found = parsed(metrics.text(pods, {}))
    assert found["gatling_app_up", 'app="shop"'] == 1
    assert found["gatling_app_node_reachable", 'app="shop",pod="shop-a"'] == 1
    assert found["gatling_app_node_reachable", 'app="shop",pod="shop-b"'] == 0
    assert found["gatling_instance_memory_bytes", 'app="shop",pod="shop-a"'] == 1000
    assert found["erlang_vm_process_count", 'app="shop",pod="shop-a"'] == 1
    named = 'app="shop",pod="shop-a",kind="route",name="GET /"'
    assert found["gatling_event_failures_total", named] == 0


def test_texts_of_a_project_stay_within_their_label() -> None:
    hostile = 'x"} 1\nfake{a="\\'
    found = parsed(metrics.text([Sample(status("shop", version=hostile), None)], {}))
    assert not [name for name, _ in found if name == "fake"]


def test_without_apps_there_is_no_text() -> None:
    assert metrics.text([], {}) == ""


def test_nodes_are_measured_at_the_same_time_and_their_faults_are_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of forty apps one has a damaged release, one refuses, and all others take their time."""
    apps = [cast("Any", SimpleNamespace(name=f"app{n}", live_slot=1, wanted="running",
                                        effective={})) for n in range(40)]  # fmt: skip

    @contextlib.contextmanager
    def connect(app: Any) -> Iterator[Any]:
        if app.name == "app7":
            raise NodeUnreachable("The node refused.")
        time.sleep(0.3)
        yield SimpleNamespace(attach=lambda: False, numbers=lambda: NODE)

    def observer(_: object, app: Any) -> Any:
        if app.name == "app3":
            raise FileNotFoundError
        return functools.partial(connect, app)

    monkeypatch.setattr(live_node, "observer", observer)
    began = time.monotonic()
    found = metrics.measured(cast("Any", None), apps, metrics._numbers)
    assert time.monotonic() - began < 6  # one after the other they would take 12 s
    assert found.keys() == {app.name for app in apps} - {"app3", "app7"}


# ---------------------------------------------------------------- the counters


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "totals.json"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "requests.log"


def append(log: Path, number: int, **what: Any) -> None:
    with log.open("ab") as file:
        file.write(b"".join(line(n, **what) for n in range(number)))


def counted(log: Path, kept: Path, **more: Any) -> int:
    found = request_totals.update(log, kept, **more)
    return found.get("shop", Totals()).histogram[-1]


def test_each_update_counts_what_the_log_has_gained(log: Path, kept: Path) -> None:
    assert counted(log, kept) == 0
    append(log, 10)
    assert counted(log, kept) == 10
    assert counted(log, kept) == 10
    append(log, 5, status=503)
    with log.open("ab") as file:
        file.write(line(1)[:20])  # nginx is writing
    assert counted(log, kept) == 15
    with log.open("ab") as file:
        file.write(line(1)[20:])
    assert counted(log, kept) == 16
    found = request_totals.update(log, kept)["shop"]
    assert found.statuses == {200: 11, 503: 5}
    assert found.milliseconds == 16 * 12


def test_nothing_is_lost_or_counted_twice_by_rotations(log: Path, kept: Path) -> None:
    log.touch()
    assert counted(log, kept) == 0
    for n in range(1, 9):
        append(log, 10)
        if n % 2:
            log_rotation.rotate(log, log.touch)
            append(log, 10)
            log_rotation.rotate(log, log.touch)
        append(log, 10)
        assert counted(log, kept) == sum(30 if m % 2 else 20 for m in range(1, n + 1))


def test_the_counters_never_shrink_when_lines_were_rotated_away(log: Path, kept: Path) -> None:
    append(log, 10)
    assert counted(log, kept) == 10
    for _ in range(6):
        log_rotation.rotate(log, log.touch)
        append(log, 1)
    assert 10 < counted(log, kept) <= 16


def test_no_update_reads_more_than_the_limit(log: Path, kept: Path) -> None:
    append(log, 1)
    assert counted(log, kept) == 1
    append(log, 1000)
    assert counted(log, kept, limit=100 * len(line(0))) == 101
    assert counted(log, kept) == 101


@pytest.mark.parametrize(
    "broken", ["", "{", '{"apps": 1}', '{"apps": {"shop": {"histogram": [1]}}}']
)
def test_a_broken_file_of_totals_begins_again(log: Path, kept: Path, broken: str) -> None:
    kept.write_text(broken)
    append(log, 3)
    assert counted(log, kept) == 3


def test_two_scrapes_at_the_same_time_count_each_request_once(log: Path, kept: Path) -> None:
    append(log, 2000)
    threads = [threading.Thread(target=counted, args=(log, kept)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(log, kept) == 2000
