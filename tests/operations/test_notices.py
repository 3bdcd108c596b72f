"""Notifications: what is recorded, what receivers get, and what becomes of what they refuse."""

from __future__ import annotations

import contextlib
import email
import email.policy
import hashlib
import hmac
import json
import re
import time
from base64 import b64decode, b64encode
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from gatling.errors import InvalidInput, NotFound
from gatling.operations import notices, sampling, sending
from gatling.operations.alerts import Judged
from gatling.operations.sending import NotDelivered
from gatling.platform.restarts import End
from gatling.proxy.certificates import Certificate
from gatling.runtime import notifying
from gatling.state import apps, deployments, issuance, runs
from gatling.state import notices as state
from gatling.state.database import open_database
from gatling.state.issuance import Issuance
from tests.operations.sinks import http_sink, smtp_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gatling.platform.open import Gatling
    from gatling.state.database import Database
    from tests.operations.sinks import Mailbox, Sink


@pytest.fixture
def stop() -> Iterator[Callable[[Callable[[], None]], object]]:
    with contextlib.ExitStack() as ends:
        yield ends.callback


@pytest.fixture
def sink(stop: Callable[[Callable[[], None]], object]) -> Sink:
    return http_sink(stop)


@pytest.fixture
def mailbox(
    stop: Callable[[Callable[[], None]], object], monkeypatch: pytest.MonkeyPatch
) -> Mailbox:
    box = smtp_sink(stop)
    monkeypatch.setattr(sending, "MAIL_SERVER", ("127.0.0.1", box.port))
    return box


@pytest.fixture
def gatling(tmp_path: Path) -> Iterator[Gatling]:
    db = open_database(tmp_path / "state.db")
    with db.transaction():
        for name in ("blog", "shop"):
            db.execute("INSERT INTO apps (name, created_at) VALUES (?, '')", name)
    ends: dict[tuple[str, object], list[End]] = {}
    schedule = SimpleNamespace(notify=lambda **_: None, deliver_soon=lambda: None)
    instances = SimpleNamespace(
        process_slots=lambda app: ["worker.1"] if app == "shop" else [],
        ends=lambda app, slot: ends.get((app, slot), []),
    )
    home = SimpleNamespace(root=tmp_path)
    certificates = SimpleNamespace(of=lambda _: [])
    made = SimpleNamespace(
        db=db, actor="ann", home=home, schedule=schedule, instances=instances, ended=ends,
        certificates=certificates,
    )  # fmt: skip
    yield cast("Gatling", made)
    db.close()


def failed_deployment(db: Database, app: str = "shop", error: str = "It did not boot.") -> int:
    begun = deployments.begin(db, app, cause="push", actor="ann", mark="m", commit="c" * 40)
    deployments.end(db, begun.id, "failed", seconds=3, error=error)
    return begun.id


def titles(db: Database, channel: str) -> list[str]:
    rows = db.rows(
        "SELECT title FROM deliveries JOIN outbox ON id = notice WHERE channel = ? ORDER BY id",
        channel,
    )
    return [row["title"] for row in rows]


def channel(quiet: str) -> state.Channel:
    return state.Channel("ops", "webhook", "", "", ("*",), ("*",), "", quiet=quiet)


@pytest.mark.parametrize(
    ("quiet", "clock", "is_quiet"),
    [("", "23:00", False), ("22:00-07:00", "22:00", True), ("22:00-07:00", "06:59", True),
     ("22:00-07:00", "07:00", False), ("22:00-07:00", "12:00", False),
     ("12:00-13:30", "13:29", True), ("12:00-13:30", "11:59", False)],
)  # fmt: skip
def test_quiet_hours(quiet: str, clock: str, is_quiet: bool) -> None:
    at = time.mktime(time.strptime(f"2026-02-03 {clock}", "%Y-%m-%d %H:%M"))
    assert channel(quiet).is_quiet(at) == is_quiet


@pytest.mark.parametrize("quiet", ["22:00", "22-07", "24:00-07:00", "22:00-22:00", "22:00-07:60"])
def test_hours_that_are_none(quiet: str) -> None:
    with pytest.raises(InvalidInput, match="no hours"):
        notices.checked("ops", "mailto:ann@example.com", (), (), quiet)


def test_alerts_alone_wait_in_quiet_hours(gatling: Gatling, sink: Sink) -> None:
    now = time.localtime()
    hours = f"{time.strftime('%H:%M', now)}-{(now.tm_hour + 2) % 24:02d}:{now.tm_min:02d}"
    notices.add(gatling, "ops", sink.url, (), (), hours)
    with gatling.db.transaction():
        state.add(gatling.db, "alert.started", "shop: slow", app="shop")
    failed_deployment(gatling.db)
    assert notices.deliver(gatling).accepted == 1
    assert titles(gatling.db, "ops") == ["shop: slow"]
    gatling.db.execute("UPDATE channels SET quiet = ''")
    assert notices.deliver(gatling).accepted == 1
    assert titles(gatling.db, "ops") == []


def test_alerts_of_an_app_wait_in_its_quiet_hours(gatling: Gatling, sink: Sink) -> None:
    now = time.localtime()
    hours = f"{time.strftime('%H:%M', now)}-{(now.tm_hour + 2) % 24:02d}:{now.tm_min:02d}"
    notices.add(gatling, "ops", sink.url, (), ())
    with gatling.db.transaction():
        gatling.db.execute(
            "UPDATE apps SET settings = json_object('alerts.quiet', ?) WHERE name = 'shop'", hours
        )
        for app in ("shop", "blog"):
            state.add(gatling.db, "alert.started", f"{app}: slow", app=app)
    failed_deployment(gatling.db)
    assert notices.deliver(gatling).accepted == 2
    assert titles(gatling.db, "ops") == ["shop: slow"]
    assert notices.deliver(gatling).accepted == 0
    gatling.db.execute("UPDATE apps SET settings = '{}'")
    assert notices.deliver(gatling).accepted == 1


def begin(gatling: Gatling, rule: str = "errors", app: str = "shop") -> None:
    sampling.change(gatling, app, Judged(rule, True, "3 of 20 requests failed (15.0 %)"))


def end(gatling: Gatling, rule: str = "errors", app: str = "shop") -> None:
    sampling.change(gatling, app, Judged(rule, False, "0 of 20 requests failed (0.0 %)"))


def test_an_alert_that_ends_before_it_was_sent_is_one_notification(
    gatling: Gatling, sink: Sink
) -> None:
    now = time.localtime()
    hours = f"{time.strftime('%H:%M', now)}-{(now.tm_hour + 2) % 24:02d}:{now.tm_min:02d}"
    notices.add(gatling, "night", sink.url, (), (), hours)
    notices.add(gatling, "day", sink.url, (), ())
    notices.add(gatling, "begins", sink.url, (), ("alert.started",), hours)
    notices.add(gatling, "ends", sink.url, (), ("alert.ended",), hours)
    begin(gatling)
    begin(gatling, "latency")
    assert notices.deliver(gatling).accepted == 2  # those of the day
    end(gatling)
    began, ended = "shop: 3 of 20 requests failed (15.0 %)", "shop: within its range again"
    assert titles(gatling.db, "day")[0].startswith(ended)
    assert titles(gatling.db, "ends")[0].startswith(ended)
    still, once = titles(gatling.db, "night")
    assert still == began  # of the other rule: it is on
    assert re.fullmatch(
        r"shop: the alert errors was on from 20\d\d-\d\d-\d\d \d\d:\d\d to \S+ \d\d:\d\d", once
    )
    assert titles(gatling.db, "begins") == [still, once]

    # it begins and ends again and again, and is on in the end
    assert notices.deliver(gatling).accepted == 1
    for _ in range(2):
        begin(gatling)
        end(gatling)
    begin(gatling)
    assert notices.deliver(gatling).accepted == 2  # one for both pairs: none had been sent
    still, often, on = titles(gatling.db, "night")
    assert often.startswith("shop: the alert errors was on 3 times from 20")
    assert (still, on) == (began, began)

    gatling.db.execute("UPDATE channels SET quiet = ''")
    sink.got.clear()
    while notices.deliver(gatling).accepted:
        pass
    bodies = [json.loads(one.body) for one in sink.got]
    (merged,) = [one for one in bodies if one["data"].get("times") and one["type"] == "alert.ended"]
    assert merged["data"]["began_at"] < merged["data"]["ended_at"]
    assert merged["data"]["text"].startswith(
        "It began with: 3 of 20 requests failed (15.0 %). It ended with: within its range again"
    )


def test_an_alert_of_another_app_is_not_merged(gatling: Gatling, sink: Sink) -> None:
    now = time.localtime()
    hours = f"{time.strftime('%H:%M', now)}-{(now.tm_hour + 2) % 24:02d}:{now.tm_min:02d}"
    notices.add(gatling, "night", sink.url, (), (), hours)
    begin(gatling)
    begin(gatling, app="blog")
    end(gatling, app="blog")
    first, second = titles(gatling.db, "night")
    assert first == "shop: 3 of 20 requests failed (15.0 %)"
    assert second.startswith("blog: the alert errors was on from ")


# ---------------------------------------------------------------- what is recorded


def test_without_a_channel_nothing_is_kept(gatling: Gatling) -> None:
    failed_deployment(gatling.db)
    assert gatling.db.value("SELECT count(*) FROM outbox") == 0


def test_a_fact_and_its_notification_are_one(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    ident = failed_deployment(gatling.db)
    assert titles(gatling.db, "ops") == [f"shop: deployment {ident} failed (push by ann)"]
    # recovery may record an end again: it is the same one
    deployments.end(gatling.db, ident, "failed", seconds=3, error="It did not boot.")
    assert len(titles(gatling.db, "ops")) == 1


def test_what_is_cancelled_by_a_person_is_no_news(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    begun = deployments.begin(gatling.db, "shop", cause="push", actor="a", mark="m", commit=None)
    deployments.end(gatling.db, begun.id, "cancelled")
    assert titles(gatling.db, "ops") == []


def test_a_channel_gets_what_it_wants(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "all", sink.url, (), ())
    notices.add(gatling, "blog", sink.url, ["blog"], ())
    notices.add(gatling, "live", sink.url, ["shop"], ["deployment.succeeded"])
    failed_deployment(gatling.db)
    begun = deployments.begin(gatling.db, "shop", cause="push", actor="a", mark="m", commit=None)
    deployments.end(gatling.db, begun.id, "succeeded")
    assert (len(titles(gatling.db, "all")), titles(gatling.db, "blog")) == (1, [])
    assert [title.split(" (")[0] for title in titles(gatling.db, "live")] == [
        f"shop: deployment {begun.id} succeeded"
    ]


@pytest.mark.parametrize("outcome", ["failed", "timed out", "interrupted"])
def test_a_job_that_fails(gatling: Gatling, sink: Sink, outcome: runs.Outcome) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    run = runs.begin(
        gatling.db, "shop", "report", cause="schedule", actor=None, mark="m", release=1
    )
    runs.end(gatling.db, run.id, outcome, error="exited with status 1")
    runs.end(gatling.db, run.id, outcome, error="again")
    assert titles(gatling.db, "ops") == [f"shop: the job report {outcome}"]


def test_a_job_that_succeeds_or_is_skipped_is_no_news(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    outcomes: tuple[runs.Outcome, ...] = ("succeeded", "skipped", "cancelled")
    for outcome in outcomes:
        run = runs.begin(
            gatling.db, "shop", "report", cause="schedule", actor=None, mark="m", release=1
        )
        runs.end(gatling.db, run.id, outcome)
    assert titles(gatling.db, "ops") == []


def test_what_waits_is_bounded(
    gatling: Gatling, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "MAX_WAITING", 3)
    notices.add(gatling, "ops", sink.url, (), ())
    idents = [failed_deployment(gatling.db) for _ in range(5)]
    assert [int(t.split()[2]) for t in titles(gatling.db, "ops")] == idents[2:]
    (entry,) = notices.every(gatling)
    assert (entry.waiting, entry.dropped) == (3, 2)
    assert gatling.db.value("SELECT count(*) FROM outbox") == 3


# ---------------------------------------------------------------- what is looked at


def test_an_instance_that_ends_is_reported_once(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    notifying.look(gatling)
    at = time.time() + 1
    ends = cast("dict[tuple[str, object], list[End]]", gatling.ended)  # type: ignore[attr-defined]
    ends["shop", 1] = [End(at, 30, "killed by SIGKILL")]
    ends["shop", "worker.1"] = [End(at, 3, "exited with status 1"), End(at + 1, 1, "memory limit")]
    for _ in range(3):
        notifying.look(gatling)
    assert titles(gatling.db, "ops") == [
        "shop: an instance ended once (killed by SIGKILL) and was started again",
        "shop: an instance ended 2 times (memory limit) and was started again",
    ]
    # one that ends again and again is reported every ten minutes
    ends["shop", 1] = [*ends["shop", 1], End(at + 5, 1, "exited with status 2")]
    notifying.look(gatling)
    assert len(titles(gatling.db, "ops")) == 2
    gatling.db.execute(
        "UPDATE conditions SET value = ? WHERE name = 'shop/ends/1'", json.dumps([at, 0])
    )
    notifying.look(gatling)
    assert titles(gatling.db, "ops")[2:] == [
        "shop: an instance ended once (exited with status 2) and was started again"
    ]


def test_what_was_before_the_first_look_is_no_news(gatling: Gatling, sink: Sink) -> None:
    ends = cast("dict[tuple[str, object], list[End]]", gatling.ended)  # type: ignore[attr-defined]
    ends["shop", 1] = [End(time.time() - 60, 30, "killed by SIGKILL")]
    notices.add(gatling, "ops", sink.url, (), ())
    notifying.look(gatling)
    assert titles(gatling.db, "ops") == []


def test_a_certificate_that_nobody_renews_is_reported_once(
    gatling: Gatling, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def certificate(name: str, days: float, *, obtained: bool = False) -> Certificate:
        end = int(time.time() + 86400 * days)
        return Certificate(
            id=name * 32, names=(f"{name}.example",), issuer="CA", not_before=0, not_after=end,
            key="RSA 2048", self_signed=False, alone=False, added=1.0, obtained=obtained,
        )  # fmt: skip

    gatling.db.execute(
        "INSERT INTO domains (app, domain, added_at)"
        " VALUES ('shop', 'a.example', ''), ('shop', 'b.example', '')"
    )
    kept = [certificate("a", 15), certificate("b", 3, obtained=True), certificate("c", 3)]
    monkeypatch.setattr(
        gatling.certificates, "of", lambda app: kept if app == "shop" else [], raising=False
    )
    notices.add(gatling, "ops", sink.url, (), ())
    notifying.look(gatling)
    assert titles(gatling.db, "ops") == []
    kept[0] = certificate("a", 13)
    for _ in range(2):
        notifying.look(gatling)
    (title,) = titles(gatling.db, "ops")
    assert title.startswith("shop: the certificate of a.example expires on 20")
    kept[0] = certificate("a", 90)
    notifying.look(gatling)
    kept[0] = certificate("a", -1)
    notifying.look(gatling)
    assert titles(gatling.db, "ops")[1].startswith("shop: the certificate of a.example has expired")


def test_a_certificate_is_reported_after_an_hour_and_when_it_is_over(
    gatling: Gatling, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    failing = Issuance(app="shop", failures=1, error="Refused.", domains="a.example")
    issuance.put(gatling.db, failing)
    notifying.look(gatling)
    assert titles(gatling.db, "ops") == []
    now += notifying.CERTIFICATE_SECONDS + 1
    for _ in range(2):
        notifying.look(gatling)
    assert titles(gatling.db, "ops") == ["shop: no certificate could be obtained for a.example"]
    issuance.put(gatling.db, Issuance(app="shop"))
    for _ in range(2):
        notifying.look(gatling)
    assert titles(gatling.db, "ops")[1:] == ["shop: its certificate was obtained"]


def test_a_disk_that_fills_is_reported_once(
    gatling: Gatling, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    for free, reported in ((50, 0), (4, 1), (3, 1), (7, 1), (4, 1), (11, 2), (9, 2), (2, 3)):
        monkeypatch.setattr(notifying, "free_percent", lambda _, free=free: free)
        notifying.look(gatling)
        assert len(titles(gatling.db, "ops")) == reported, free


def test_a_removed_app_is_forgotten(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    with gatling.db.transaction():
        state.set_condition(gatling.db, "shop/ends/1", "[1, 1]")
        state.set_condition(gatling.db, "shop2/ends/1", "[1, 1]")
    apps.delete(gatling.db, "shop")
    notifying.forget(gatling, "shop")
    names = [row["name"] for row in gatling.db.rows("SELECT name FROM conditions")]
    assert names == ["shop2/ends/1"]


# ---------------------------------------------------------------- what receivers get


def test_a_webhook_is_signed(gatling: Gatling, sink: Sink) -> None:
    secret = notices.add(gatling, "ops", sink.url, (), ()).secret
    ident = failed_deployment(gatling.db)
    assert notices.deliver(gatling) == notices.Delivered(accepted=1, failed=0)
    (got,) = sink.got
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    key = b64decode(secret.removeprefix("whsec_"))
    expected = b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 60
    told = json.loads(got.body)
    assert told["type"] == "deployment.failed"
    assert told["data"]["app"] == "shop"
    assert told["data"]["deployment"] == ident
    assert told["data"]["text"] == "It did not boot."
    # nothing is left, and nothing is sent again
    assert notices.deliver(gatling) == notices.Delivered(0, 0)
    assert gatling.db.value("SELECT count(*) FROM outbox") == 0


def test_what_is_sent_again_has_the_same_id(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    failed_deployment(gatling.db)
    sink.status = 503
    assert notices.deliver(gatling) == notices.Delivered(accepted=0, failed=1)
    (entry,) = notices.every(gatling)
    assert (entry.failures, entry.waiting) == (1, 1)
    assert "status 503" in entry.error
    assert notices.deliver(gatling) == notices.Delivered(0, 0)  # not before its time
    gatling.db.execute("UPDATE channels SET retry_at = 0")
    sink.status = 204
    assert notices.deliver(gatling) == notices.Delivered(accepted=1, failed=0)
    first, second = sink.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    (entry,) = notices.every(gatling)
    assert (entry.failures, entry.error, entry.waiting) == (0, "", 0)


def test_the_order_is_kept(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    idents = [failed_deployment(gatling.db) for _ in range(4)]
    assert notices.deliver(gatling).accepted == 4
    assert [json.loads(got.body)["data"]["deployment"] for got in sink.got] == idents


def test_one_receiver_holds_up_no_other(
    gatling: Gatling,
    sink: Sink,
    stop: Callable[[Callable[[], None]], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notices, "ATTEMPT_SECONDS", 2)  # the fast one may be on a slow machine
    slow = http_sink(stop)
    slow.pause = 60
    notices.add(gatling, "fast", sink.url, (), ())
    notices.add(gatling, "slow", slow.url, (), ())
    for _ in range(3):
        failed_deployment(gatling.db)
    began = time.monotonic()
    assert notices.deliver(gatling) == notices.Delivered(accepted=3, failed=1)
    assert time.monotonic() - began < 30
    fast_entry, slow_entry = notices.every(gatling)
    assert (fast_entry.waiting, slow_entry.waiting) == (0, 3)
    assert slow_entry.error == "No answer within 2 seconds."


def test_the_pause_grows_and_the_receiver_may_ask_for_more(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    failed_deployment(gatling.db)
    sink.status = 500
    for pause in (*notices.PAUSES, notices.PAUSES[-1]):
        gatling.db.execute("UPDATE channels SET retry_at = 0")
        notices.deliver(gatling)
        channel = state.get(gatling.db, "ops")
        assert channel
        assert abs(channel.retry_at - time.time() - pause) < 20
    sink.status, sink.headers = 429, {"Retry-After": "40000"}
    gatling.db.execute("UPDATE channels SET retry_at = 0")
    notices.deliver(gatling)
    channel = state.get(gatling.db, "ops")
    assert channel
    assert abs(channel.retry_at - time.time() - 40000) < 20


def test_what_nobody_takes_for_days_is_given_up(gatling: Gatling, sink: Sink) -> None:
    notices.add(gatling, "ops", sink.url, (), ())
    failed_deployment(gatling.db)
    gatling.db.execute("UPDATE outbox SET at = '2020-01-01T00:00:00Z'")
    sink.status = 500
    notices.deliver(gatling)
    (entry,) = notices.every(gatling)
    assert (entry.waiting, entry.dropped) == (0, 1)


@pytest.mark.parametrize(("status", "said"), [(302, "redirect"), (410, "remove the channel")])
def test_answers_that_a_person_must_look_at(
    gatling: Gatling, sink: Sink, status: int, said: str
) -> None:
    sink.status, sink.headers = status, {"Location": sink.url}
    notices.add(gatling, "ops", sink.url, (), ())
    failed_deployment(gatling.db)
    notices.deliver(gatling)
    (entry,) = notices.every(gatling)
    assert said in entry.error
    assert len(sink.got) == 1


def test_nobody_listens(gatling: Gatling) -> None:
    notices.add(gatling, "ops", "http://127.0.0.1:9/x", (), ())
    with pytest.raises(NotDelivered, match="the connection failed"):
        notices.test(gatling, "ops")


def test_a_mail(gatling: Gatling, mailbox: Mailbox) -> None:
    notices.add(gatling, "ops", "mailto:ops@example.com", (), ())
    failed_deployment(gatling.db, error="Bad\nSubject: forged\x1b[31m\x07")
    assert notices.deliver(gatling).accepted == 1
    (mail,) = mailbox.mails
    read = email.message_from_string(mail, policy=email.policy.default)
    assert read["To"] == "ops@example.com"
    assert read["Auto-Submitted"] == "auto-generated"
    assert "shop: deployment" in read["Subject"]
    assert "forged" not in read["Subject"]
    body = read.get_body()
    assert body is not None
    assert "\x1b" not in body.get_content()
    assert "Subject: forged" in body.get_content()


def test_a_mail_that_is_refused(gatling: Gatling, mailbox: Mailbox) -> None:
    mailbox.refuse = True
    notices.add(gatling, "ops", "mailto:ops@example.com", (), ())
    with pytest.raises(NotDelivered, match="did not take the mail"):
        notices.test(gatling, "ops")


def test_a_chat_service(gatling: Gatling, sink: Sink) -> None:
    target = sink.url.replace("http:", "json:")
    notices.add(gatling, "team", target, (), ())
    failed_deployment(gatling.db)
    assert notices.deliver(gatling).accepted == 1
    told = json.loads(sink.got[0].body)
    assert "deployment" in told["title"]
    assert "It did not boot." in told["message"]


def test_a_chat_service_that_refuses_shows_no_token(
    gatling: Gatling, sink: Sink, capfd: pytest.CaptureFixture[str]
) -> None:
    sink.status = 403
    target = sink.url.replace("http:", "json:").replace("/hook", "/secret-token-0123456789")
    notices.add(gatling, "team", target, (), ())
    with pytest.raises(NotDelivered) as raised:
        notices.test(gatling, "team")
    assert "secret-token" not in raised.value.what
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "target",
    [
        "", "ops", "ops@example.com", "mailto:", "mailto:ops", "mailto:a@b@c", "mailto:a@b,c@d",
        "https://", "http://:80", "https://x.example/ y", "https://x.example/\n", "http://[::1",
        "https://x.example:99999/", "nosuch://x", "file:///etc/passwd", "syslog://", "dbus://",
        "https://x.example/" + "y" * 3000, "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_target(gatling: Gatling, target: str) -> None:
    with pytest.raises(InvalidInput):
        notices.add(gatling, "ops", target, (), ())
    assert notices.every(gatling) == []


@pytest.mark.parametrize("name", ["", "A", "a b", "../x", "-a", "x" * 32, "a\n"])
def test_what_is_no_name(gatling: Gatling, name: str) -> None:
    with pytest.raises(InvalidInput):
        notices.add(gatling, name, "mailto:ops@example.com", (), ())


def test_other_mistakes(gatling: Gatling) -> None:
    notices.add(gatling, "ops", "mailto:ops@example.com", (), ())
    with pytest.raises(InvalidInput, match="already"):
        notices.add(gatling, "ops", "mailto:ann@example.com", (), ())
    with pytest.raises(InvalidInput, match="no event"):
        notices.add(gatling, "two", "mailto:ann@example.com", (), ["deploy"])
    with pytest.raises(InvalidInput):
        notices.add(gatling, "two", "mailto:ann@example.com", ["No App"], ())
    for act in (notices.remove, notices.test):
        with pytest.raises(NotFound):
            act(gatling, "two")


def test_no_target_is_shown_whole(gatling: Gatling) -> None:
    notices.add(gatling, "one", "https://user:word@hooks.example.com/T0/secret?token=1", (), ())
    notices.add(gatling, "two", "ntfys://secrettopic", (), ())
    shown = json.dumps([entry.target for entry in notices.every(gatling)])
    assert json.loads(shown) == ["https://hooks.example.com/…", "ntfys://…"]


def test_two_deliveries_at_once_send_nothing_twice(gatling: Gatling, sink: Sink) -> None:
    from gatling import files

    notices.add(gatling, "ops", sink.url, (), ())
    failed_deployment(gatling.db)
    with files.open_lock(gatling.home.root / "notify.lock") as held:
        assert files.try_lock(held)
        assert notices.deliver(gatling) == notices.Delivered(0, 0)
    assert sink.got == []
    assert notices.deliver(gatling).accepted == 1
