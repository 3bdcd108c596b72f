"""Whatever root's helper is asked, it refuses, or does only what a valid request may mean."""

from __future__ import annotations

import configparser
import copy
import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatling.platform.server import obtaining, recovery_units, units
from gatling.platform.server.helper import certificates, machine, service
from gatling.platform.server.helper import nginx as system_nginx
from gatling.platform.server.helper.machine import COMMAND
from gatling.platform.server.helper.programs import AFTER_PUSH
from gatling.platform.server.helper.service import ATTENDED, PLAIN
from gatling.proxy import log_rotation
from gatling.proxy.site import Site
from gatling.ssh.push import HANDED_ON
from tests.platform.server.helper.test_shapes import ANY, HOSTILE, JSON
from tests.platform.server.helper.wishes import JOB, JOBS, OPTIONS, PASSWORDS, TIMER
from tests.scale import scaled

if TYPE_CHECKING:
    from tests.platform.server.helper.conftest import Helper

EXAMPLES = settings(
    max_examples=scaled(60, 250),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
LABELS = st.sampled_from(["shop", "blog-2", "a", "taken", "x" * 63, "x" * 62 + "y", "0"])
PLACE = r"(?:[12]|[a-z][a-z0-9_-]{0,30}\.[1-9][0-9]?)"
SERVER = "/var/lib/gatling/apps/"

# ---------------------------------------------------------------- requests

LIMITS = st.fixed_dictionaries(
    {},
    optional={"memory": st.sampled_from(["", "512M", "75%"]), "tasks": st.integers(0, 4_000_000),
              "cpu": st.sampled_from(["", "150%"])},
)  # fmt: skip
TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=9)
SITES = st.lists(
    st.fixed_dictionaries(
        {
            "app": LABELS,
            "domains": st.lists(
                st.sampled_from(["a.example.com", "*.b.org", "shop.localhost"]),
                min_size=1,
                max_size=3,
            ),
            "ports": st.lists(st.integers(1024, 65535), min_size=2, max_size=2),
        },
        optional={"options": OPTIONS, "passwords": PASSWORDS},
    ),
    max_size=3,
)
PROCESSES = st.sampled_from(["worker.1", "a.99", "x" * 31 + ".2", "a_b-c.3"])
SLOT = {"app": LABELS, "slot": st.sampled_from([1, 2]) | PROCESSES}
PROGRAM = {
    "argv": st.lists(TEXTS, min_size=1, max_size=3),
    "env": st.dictionaries(st.sampled_from(["A", "HOME"]), TEXTS, max_size=2),
    "cwd": st.just("(the app's)"),
    "nice": st.integers(0, 19),
}
PORTS = st.none() | st.lists(st.integers(1024, 65535), max_size=4)
VALID: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "app": {"app": LABELS, "limits": LIMITS, "stop": st.floats(1, 3600), "ports": PORTS},
    "slot": {
        "app": LABELS,
        "slot": PROCESSES,
        "limits": LIMITS,
        "stop": st.floats(1, 3600),
        "ports": PORTS,
    },
    "discard": {"app": LABELS, "slot": PROCESSES},
    "forget": {"app": LABELS},
    "start": SLOT | PROGRAM,
    "prepare": SLOT | PROGRAM,
    "stop": SLOT | {"timeout": st.floats(0, 3600), "unused": st.booleans(), "wait": st.booleans()},
    "end": {"app": LABELS},
    "run": {
        "app": LABELS,
        "kind": st.sampled_from(["build", "release", "run"]),
        "id": st.from_regex(r"[a-z0-9]{1,40}", fullmatch=True),
        "timeout": st.floats(0, 86400 * 7) | st.just(0),
        "umask": st.booleans(),
        "terminal": st.booleans(),
        "limits": LIMITS,
    }
    | PROGRAM,
    "push": {
        "app": LABELS,
        "id": st.from_regex(r"[a-z0-9]{1,40}", fullmatch=True),
        "env": st.dictionaries(st.sampled_from(HANDED_ON), TEXTS),
    },
    "schedule": {"app": LABELS, "jobs": JOBS},
    "watch": {"app": LABELS},
    "certificate-obtain": {
        "app": LABELS,
        "after": st.just(0) | st.floats(1, 86400),
        "every": st.just(False),
    },
    "ports": {
        "apps": st.dictionaries(LABELS, st.just([]), max_size=3)
        | st.just({"shop": [20001, 20002], "taken": [20003]})
    },
    "proxy": {"sites": SITES},
    "proxy-check": {},
    "proxy-rotate": {},
    "notify": {},
    "sample": {"to": st.sampled_from(["on", "off"])},
    "drain": {
        "app": LABELS,
        "drain": st.integers(1, 10**9),
        "to": st.sampled_from(["on", "off"]),
    },
    "logs": {
        "app": LABELS,
        "slots": st.lists(st.sampled_from([1, 2]) | PROCESSES, min_size=1, max_size=4),
        "lines": st.integers(0, 10_000_000),
        "since": st.floats(1, 1e12),
        "follow": st.booleans(),
        "forward": st.booleans(),
        "after": st.sampled_from(["", "s=0f;i=1;b=a;m=2;t=3;x=4"]),
    },
}


@st.composite
def valid(draw: st.DrawFn) -> dict[str, Any]:
    """A request that is one of ours."""
    verb = draw(st.sampled_from(sorted(VALID)))
    return {"verb": verb} | {key: draw(value) for key, value in VALID[verb].items()}


@st.composite
def nearly(draw: st.DrawFn) -> dict[str, Any]:
    """One with something in it that should not be there."""
    # strategies hand out the same objects again and again
    request = copy.deepcopy(draw(valid()))
    place: Any = request
    for _ in range(draw(st.integers(0, 3))):  # down to a part of it
        if isinstance(place, dict) and place:
            inner = place[draw(st.sampled_from(sorted(place)))]
        elif isinstance(place, list) and place:
            inner = place[draw(st.integers(0, len(place) - 1))]
        else:
            break
        if not isinstance(inner, (dict, list)):
            break
        place = inner
    value = draw(ANY | HOSTILE)
    if isinstance(place, list):
        place.insert(draw(st.integers(0, len(place))), value)
    elif draw(st.booleans()) and place:
        place[draw(st.sampled_from(sorted(place)))] = value
    elif draw(st.booleans()) and place:
        del place[draw(st.sampled_from(sorted(place)))]
    else:
        place[draw(HOSTILE | st.sampled_from(["User", "properties", "umask", "unit", "env"]))] = (
            value
        )
    return request


RANDOM = JSON | st.dictionaries(
    st.sampled_from(["verb", "app", "slot", "sites", "id", "argv"]), ANY | st.sampled_from(
        sorted(VALID)), max_size=5,
)  # fmt: skip

# ---------------------------------------------------------------- what may come of them


TESTED = re.escape('mount --bind "$1" "$2" && exec nginx -t -q').replace("\\ ", r"\x20")
NGINX = r"/[^\0]+/nginx/sites\.conf"


def commands(app: str) -> re.Pattern[str]:
    """All command lines that a request for one app may lead to, words separated by NULs."""
    instance, user = rf"gatling@{app}\.{PLACE}\.service", re.escape(units.user(app))
    tasks = rf"gatling-build-{app}\.\*\.service gatling-release-{app}\.\*\.service"
    runs = rf"gatling-job-{app}\.\*\.service gatling-run-{app}\.\*\.service"
    timers = rf"( gatling-job@{app}\.{JOB}\.timer)+"
    useradd = "useradd --system --user-group --no-create-home --shell /usr/sbin/nologin"
    journal = re.escape(units.user(app))
    logs = rf"journalctl --namespace=\+{journal} --output=json --quiet --no-pager"
    journald = " ".join(rf"systemd-{unit}@{journal}\.{kind}" for unit, kind in (
        ("journald", "socket"), ("journald-varlink", "socket"), ("journald", "service"),
    ))  # fmt: skip
    fields = "--output-fields=MESSAGE,_SYSTEMD_UNIT,_PID"
    places = rf"( _SYSTEMD_UNIT=gatling@{app}\.{PLACE}\.service){{1,}}"
    since = r" --since=@[0-9]{1,13}\.[0-9]{6}"
    asked = rf"({since})? --lines=[0-9]{{1,8}} --reverse{places}"
    start = rf"({since}| --after-cursor=[a-z]=[0-9a-f]+(;[a-z]=[0-9a-f]+){{0,9}})"
    follow = rf"{start}( --follow --no-tail)? _UID={os.getuid()}"
    obtain = (
        rf"--collect --quiet --unit=gatling-obtain-{app}\.(later-)?[0-9a-f]{{16}} --uid=gatling"
        r" --gid=gatling --setenv=LANG=C\.UTF-8( --property=[A-Za-z]+=[^\0]*){1,}"
    )
    watch = (
        rf"--no-block --collect --quiet --unit=gatling-watch-{app}\.[0-9a-f]{{16}}\.service"
        r" --uid=gatling --gid=gatling --setenv=LANG=C\.UTF-8 --setenv=HOME=/home"
        r" --setenv=GATLING_JOB=1( --property=[A-Za-z]+=[^\0]*){1,}"
    )
    renew = "/usr/local/bin/gatling certificates renew"
    known = [
        f"{useradd} --home-dir (SERVER){app}/state --comment Gatling_app_{app} {user}",
        f"userdel {user}",
        "systemctl daemon-reload",
        f"systemctl (stop|reset-failed) ({instance}|{tasks}|{runs})",
        f"systemctl stop --no-block {instance}",
        f"systemctl (stop|(start|restart) --job-mode=ignore-dependencies){timers}",
        rf"systemctl (stop|reset-failed) gatling-obtain-{app}\.\*",
        rf"systemctl stop gatling-obtain-{app}\.later\*\.timer",
        rf"systemctl (start --no-block|stop) gatling-drain@{app}\.[1-9][0-9]{{0,9}}\.service",
        rf"systemctl (stop|reset-failed) gatling-drain@{app}\.\*\.service",
        r"systemctl start --no-block gatling-(certificates|notify)\.service",
        r"systemctl (enable|disable) --now gatling-sampler\.service",
        rf"systemd-run (--no-block|--on-active=[0-9]{{1,5}}) {obtain} -- {renew} {app}",
        rf"systemctl (stop|reset-failed) gatling-watch-{app}\.\*\.service",
        f"systemd-run {watch} -- /usr/local/bin/gatling recover {app} --watch",
        f"systemctl show --property=MainPID --value {instance}",
        f"systemctl kill --signal=TERM --kill-whom=main {instance}",
        f"systemctl kill --signal=KILL {instance}",
        f"systemctl stop {journald}",
        rf"systemctl start systemd-journald@{journal}\.service",
        f"systemctl start --job-mode=ignore-dependencies {instance}",
        r"systemctl reload-or-restart nginx\.service",
        "nginx -t -q",
        rf"unshare --mount sh -c {TESTED} sh {NGINX}\.candidate {NGINX}",
        r"systemctl show --property=MainPID --value nginx\.service",
        r"systemctl kill --signal=USR1 --kill-whom=main nginx\.service",
        r"nft -f /[^\0]+/ports\.nft",
        f"{logs} {fields}({asked}|{follow})",
    ]
    text = "|".join(f"(?:{line})" for line in known)
    return re.compile(text.replace(" ", "\0").replace("_app_", " app "), re.ASCII)


def lines(app: str) -> re.Pattern[str]:
    """All properties that a unit of an app may have."""
    where = rf"SERVER{app}"
    known = [
        *map(re.escape, units.HARDENED),
        f"(User|Group|LogNamespace)={re.escape(units.user(app))}",
        r"TimeoutStopSec=([1-9][0-9]{0,3})(\.[0-9]+)?",
        "KillMode=mixed",
        r"MemoryMax=[1-9][0-9]*[KMGT%]?",
        "MemorySwapMax=0",
        "TasksMax=[1-9][0-9]*",
        "CPUQuota=[1-9][0-9]*%",
        r"RuntimeMaxSec=[0-9]{1,6}\.[0-9]{3}",
        "UMask=0000",
        r"TemporaryFileSystem=/\S+/server:ro,mode=755 /dev/shm:mode=1777,nosuid,nodev",
        f"BindPaths={where}/(build|work|state)",
        f"BindReadOnlyPaths=-{where}/(git|releases|work|build/cache)",
        "InaccessiblePaths=-/run/gatling -/run/dbus -/run/lock",
        r"Environment=MEMORY_LIMIT=[1-9][0-9]*([KMGT]|%%)?",
        r"SocketBindAllow=tcp:[0-9]{4,5}",
        r"SocketBindDeny=tcp:(20000-29999|4369)",
    ]
    return re.compile("|".join(f"(?:{line})" for line in known), re.ASCII)


JOURNALD_HEAD = "# Written by Gatling.\n[Unit]\nStartLimitIntervalSec=0\n"
JOURNALD = {
    ("systemd-journald", "socket"): f"{JOURNALD_HEAD}[Socket]\nSocketMode=0660\nSocketGroup={{}}\n",
    ("systemd-journald-varlink", "socket"): JOURNALD_HEAD,
    ("systemd-journald", "service"): f"{JOURNALD_HEAD}[Service]\nGroup={{}}\n",
}
OF_ALL = ("proxy-check", "proxy-rotate", "notify", "sample")
"""Verbs without an app."""
PUSH_LINES = {"User=gatling", "Group=gatling", *units.ATTENDING}
FILES = re.compile(
    rf"server(/apps|/instances)?|units(/multi-user\.target\.wants)?|nginx(/pages)?"
    rf"|server/apps/{NAME}(/(git|releases|logs|slots|build|work|state))?"
    rf"|server/instances/{NAME}\.{PLACE}\.json"
    rf"|units/multi-user\.target\.wants/gatling@{NAME}\.{PLACE}\.service"
    rf"|units/gatling@{NAME}\.{PLACE}\.service\.d(/app\.conf)?"
    rf"|units(/timers\.target\.wants)?(/gatling-job@{NAME}\.{JOB}\.timer)?"
    r"|ports\.nft"
    rf"|journald(/journald@gatling-{NAME}\.conf)?"
    rf"|units/systemd-journald(-varlink)?@gatling-{NAME}\.(socket|service)\.d(/gatling\.conf)?"
    r"|nginx/sites\.conf|nginx/gatling-requests(\.[1-3])?|nginx/pages/[a-z-]+\.html"
    rf"|nginx/auth(/{NAME}(/[0-9a-f]{{32}})?)?"
)
KEYS = {"User", "Group", "LogNamespace", "TimeoutStopSec", "TemporaryFileSystem", "BindPaths",
        "BindReadOnlyPaths", "InaccessiblePaths", "MemoryMax", "MemorySwapMax", "TasksMax",
        "CPUQuota", "SocketBindAllow", "SocketBindDeny", "Environment"}  # fmt: skip


def assert_only_what_may_be(helper: Helper, request: Any, answer: Any) -> None:
    """Nothing was run, written or passed on but what a valid request for this app may mean."""
    files = helper.files()
    assert [path for path in files if not FILES.fullmatch(path)] == []
    if "refused" in answer:
        assert (helper.calls, helper.programs, helper.attended) == ([], [], []), answer
        return
    assert "failed" not in answer
    assert request["verb"] in {*PLAIN, *ATTENDED}
    of_all = request["verb"] in ("ports", "proxy", *OF_ALL)
    app = request.get("app", "") if not of_all else ""
    assert app == "" or re.fullmatch(NAME, app, re.ASCII)
    may_run, may_be = commands(app), lines(app)
    base = f"{helper.server}/apps/"
    for argv in (*helper.calls, *helper.attended):
        assert may_run.fullmatch("\0".join(argv).replace(base, "SERVER")), argv
    for program in helper.programs:
        identifier, verb = request["id"], request["verb"]
        kind = "push" if verb == "push" else request["kind"]
        assert program["unit"] == f"gatling-{kind}-{app}.{identifier}.service"
        assert re.fullmatch("[a-z0-9]{1,40}", identifier, re.ASCII)
        for line in program["properties"]:
            if verb == "push":
                assert line in {
                    *PUSH_LINES,
                    *recovery_units.recover_after(AFTER_PUSH, COMMAND, app),
                }
            else:
                assert may_be.fullmatch(line.replace(base, "SERVER")), line
        given = {"nice"} & request.keys() if verb == "run" else set()
        assert program["program"].keys() == {"argv", "env", "cwd"} | given
        assert program["program"].get("nice", 0) in range(20)
        if verb == "push":
            argv = ["/usr/local/bin/gatling", "receive", app]
            assert program["program"]["argv"] == argv
            assert program["program"]["env"]["PATH"] == "/usr/local/bin:/usr/bin:/bin"
            assert not [k for k in program["program"]["env"] if k.startswith(("LD_", "PYTHON"))]
        else:
            assert {f"User={units.user(app)}", *units.HARDENED} <= set(program["properties"])
    for drop_in in helper.units.glob("*/app.conf"):
        assert_is_a_drop_in(drop_in, base)
    for drop_in in helper.units.glob("systemd-journald*@*.d/gatling.conf"):
        unit, _, rest = drop_in.parent.name.removesuffix(".d").partition("@")
        name, _, kind = rest.rpartition(".")
        assert drop_in.read_text() == JOURNALD[unit, kind].format(name)
    for timer in helper.units.glob("*.timer"):
        assert TIMER.fullmatch(timer.read_text()), timer.read_text()
        assert (helper.units / "timers.target.wants" / timer.name).readlink() == timer


def assert_is_a_drop_in(file: Path, base: str) -> None:
    app = file.parent.name.removeprefix("gatling@").partition(".")[0]
    text = file.read_text()
    parsed = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#")
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(text)
    assert parsed.sections() == ["Service"]
    assert parsed.options("Service")
    assert set(parsed.options("Service")) <= KEYS
    first, section, *rest = text.splitlines()
    assert (first, section) == ("# Written by Gatling.", "[Service]")
    may_be = lines(app)
    for line in rest:
        assert may_be.fullmatch(line.replace(base, "SERVER")), line
    assert f"User={units.user(app)}" in rest


def made(helper: Helper, app: str, slot: object) -> bool:
    """Whether it stands written whose a slot's unit is."""
    return (helper.units / f"gatling@{app}.{slot}.service.d" / "app.conf").exists()


def ask(helper: Helper, request: Any, files: int = 3) -> Any:
    helper.forget()
    before = helper.files()
    if isinstance(request, dict) and request.get("cwd") == "(the app's)":
        request = request | {"cwd": f"{helper.server}/apps/{request.get('app')}/releases/v1"}
    answer = helper.ask(request, files)
    assert_only_what_may_be(helper, request, answer)
    if "refused" in answer:
        assert helper.files() == before
    return answer


# ---------------------------------------------------------------- the tests


@EXAMPLES
@given(request_=valid())
def test_what_gatling_asks_is_done(helper: Helper, request_: dict[str, Any]) -> None:
    verb, app = request_["verb"], request_.get("app", "")
    of_apps: tuple[str, ...] = ("slot", "schedule", "watch", "certificate-obtain")
    if verb == "drain" and request_["to"] == "on":
        of_apps = (*of_apps, "drain")
    absent = verb in of_apps and not (helper.server / "apps" / app).exists()
    if verb in ("start", "prepare"):
        absent = not made(helper, app, request_["slot"])
    if verb == "logs" and (request_["follow"] or request_["forward"]):
        absent = units.user(app) not in helper.users.known
    if verb == "schedule" and not request_["jobs"]:
        absent = False  # to forget them is always right
    answer = ask(helper, request_)
    taken = verb == "app" and app == "taken"
    assert ("refused" in answer) == (taken or absent), answer


@EXAMPLES
@given(nearly(), st.sampled_from([3, 3, 3, 2, 0]))
def test_one_thing_that_is_not_ours(helper: Helper, request_: Any, files: int) -> None:
    ask(helper, request_, files)


@EXAMPLES
@given(RANDOM)
def test_anything(helper: Helper, request_: Any) -> None:
    ask(helper, request_)


@EXAMPLES
@given(st.sampled_from(sorted(VALID)), HOSTILE)
@example("forget", "../..")
@example("app", "shop\n")
@example("logs", "shop.1.service SYSLOG_FACILITY=10")
@example("end", "*")
def test_an_app_that_is_none(helper: Helper, verb: str, app: str) -> None:
    slot = "worker.1" if verb in ("slot", "discard") else 1
    request: Any = {"verb": verb, "slot": slot, "slots": [slot], "timeout": 1, "stop": 30,
               "id": "x", "kind": "build",
               "argv": ["/bin/true"], "env": {}, "jobs": [],
               "cwd": f"{helper.server}/apps/{app}", "lines": 1,
               "sites": [{"app": app, "domains": ["a.example"], "ports": [2000, 2001]}],
               "app": app, "apps": {app: [2000]}, "after": 0,
               "drain": 1, "to": "off"}  # fmt: skip
    made_first = ("slot", "schedule", "watch", "start", "prepare", "certificate-obtain")
    if verb in made_first and re.fullmatch(NAME, app, re.ASCII):
        ask(helper, {"verb": "app", "app": app, "limits": {}, "stop": 30})
    answer = ask(helper, request)
    ours = re.fullmatch(NAME, app, re.ASCII) or verb in OF_ALL
    assert ("refused" in answer) == (not ours), (verb, app, answer)


@pytest.mark.parametrize("verb", ["start", "prepare"])
@pytest.mark.parametrize("slot", [1, "worker.1"])
def test_nothing_is_started_of_which_it_is_not_known_whose_it_is(
    helper: Helper, verb: str, slot: int | str
) -> None:
    """Without its drop-in a unit has no app's user."""
    program = {"argv": ["/bin/sh"], "env": {}, "cwd": f"{helper.server}/apps/shop/releases/v1"}
    request = {"verb": verb, "app": "shop", "slot": slot, **program}
    assert "it is not known whose" in ask(helper, request)["refused"]
    ask(helper, {"verb": "app", "app": "shop", "limits": {}, "stop": 30})
    if slot == "worker.1":
        assert "it is not known whose" in ask(helper, request)["refused"]
        ask(helper, {"verb": "slot", "app": "shop", "slot": slot, "limits": {}, "stop": 30})
    assert ask(helper, request) == {}
    if slot == "worker.1":
        ask(helper, {"verb": "discard", "app": "shop", "slot": slot})
        assert "refused" in ask(helper, request)


def test_the_units_of_instances_are_nobodys_by_themselves() -> None:
    text = units.template(Path("/srv"), Path("/enter.py"))
    assert "\nUser=_gatling\n" in text
    assert "\nAssertPathExists=/etc/systemd/system/gatling@%i.service.d/app.conf\n" in text


def test_a_user_who_is_not_an_apps_is_left_alone(helper: Helper) -> None:
    answer = ask(helper, {"verb": "app", "app": "taken", "limits": {}, "stop": 30})
    assert "is not Gatling's" in answer["refused"]
    assert ask(helper, {"verb": "forget", "app": "taken"}) == {}
    assert ["userdel", "gatling-taken"] not in helper.calls


def test_what_a_helper_that_was_killed_has_left_is_in_nobodys_way(helper: Helper) -> None:
    for name in (".shop.gone", ".shop.new"):
        (helper.server / "apps" / name / "state").mkdir(parents=True)
    assert helper.ask({"verb": "app", "app": "shop", "limits": {}, "stop": 30}) == {}
    assert helper.ask({"verb": "forget", "app": "shop"}) == {}
    assert list((helper.server / "apps").iterdir()) == []


@pytest.mark.parametrize(
    "request_",
    [
        {"verb": "app", "app": "shop", "limits": {}, "stop": 30},
        {"verb": "slot", "app": "shop", "slot": "worker.1", "limits": {}, "stop": 30},
        {"verb": "schedule", "app": "shop",
         "jobs": [{"name": "a", "calendars": ["*-*-* *:0:00"]}]},
        {"verb": "discard", "app": "shop", "slot": "worker.2"},
    ],
    ids=lambda request_: request_["verb"],
)  # fmt: skip
def test_systemd_is_told_by_the_next_what_it_would_not_hear(
    helper: Helper, monkeypatch: pytest.MonkeyPatch, request_: dict[str, Any]
) -> None:
    if request_["verb"] != "app":
        helper.ask({"verb": "app", "app": "shop", "limits": {}, "stop": 30})
    reload_ = ["systemctl", "daemon-reload"]

    def refused(argv: list[str], *, check: bool = True, timeout: float = 120) -> str:
        if argv == reload_:
            raise subprocess.CalledProcessError(1, argv, stderr=b"Refusing to reload")
        return helper.call(argv, check=check, timeout=timeout)

    with monkeypatch.context() as patched:
        patched.setattr(machine, "call", refused)
        assert helper.ask(request_) == {
            "failed": "systemctl exited with status 1", "log": "Refusing to reload"
        }  # fmt: skip
    for calls in ([reload_], []):
        helper.forget()
        assert helper.ask({"verb": "app", "app": "shop", "limits": {}, "stop": 30}) == {}
        assert helper.calls == calls


def test_timers_are_of_the_jobs_that_there_are(helper: Helper) -> None:
    def ask_for(**jobs: list[str]) -> list[list[str]]:
        helper.forget()
        wanted = [{"name": name, "calendars": times} for name, times in jobs.items()]
        assert helper.ask({"verb": "schedule", "app": "shop", "jobs": wanted}) == {}
        return helper.calls

    assert "refused" in helper.ask(
        {"verb": "schedule", "app": "shop", "jobs": [{"name": "a", "calendars": ["*-*-* *:0:00"]}]}
    )
    helper.ask({"verb": "app", "app": "shop", "limits": {}, "stop": 30})

    hourly, daily = ["*-*-* *:0:00"], ["*-*-* 3:30:00"]
    unit = "gatling-job@shop.{}.timer".format
    start = ["systemctl", "start", "--job-mode=ignore-dependencies"]
    restart = ["systemctl", "restart", "--job-mode=ignore-dependencies"]
    reload_ = ["systemctl", "daemon-reload"]
    assert ask_for(a=hourly, b=daily) == [reload_, [*restart, unit("a"), unit("b")]]
    before = helper.files()
    assert ask_for(a=hourly, b=daily) == [[*start, unit("a"), unit("b")]]
    assert helper.files() == before
    assert ask_for(a=daily, b=daily) == [reload_, [*restart, unit("a")]]
    assert ask_for(b=daily) == [["systemctl", "stop", unit("a")], reload_, [*start, unit("b")]]
    other = {"verb": "schedule", "app": "shop-b", "jobs": [{"name": "b", "calendars": daily}]}
    helper.ask({"verb": "app", "app": "shop-b", "limits": {}, "stop": 30})
    assert helper.ask(other) == {}
    assert ask_for() == [["systemctl", "stop", unit("b")], reload_]
    assert {file.name for file in helper.units.rglob("*.timer")} == {"gatling-job@shop-b.b.timer"}
    assert ask_for() == []
    assert helper.ask({"verb": "forget", "app": "shop-b"}) == {}
    assert list(helper.units.rglob("*.timer")) == []


@pytest.mark.parametrize(
    "job",
    [
        {"name": "../a", "calendars": ["*-*-* *:0:00"]},
        {"name": "a.b", "calendars": ["*-*-* *:0:00"]},
        {"name": "web", "calendars": ["*-*-* *:0:00"]},
        {"name": "a\n", "calendars": ["*-*-* *:0:00"]},
        {"name": "a", "calendars": []},
        {"name": "a", "calendars": ["*-*-* *:0:00"] * 3},
        {"name": "a", "calendars": ["*-*-* *:0:00\n[Service]\nExecStart=/bin/sh"]},
        {"name": "a", "calendars": ["*-*-* *:0:00\n"]},
        {"name": "a", "calendars": ["*:*:*"]},
        {"name": "a", "calendars": ["*-*-* *:60:00"]},
        {"name": "a", "calendars": ["*-13-* *:0:00"]},
        {"name": "a", "calendars": ["*-*-* *:" + ",".join(["0"] * 400) + ":00"]},
        {"name": "a", "calendars": ["*-*-* *:0:00"], "command": "x"},
    ],
)
def test_a_job_that_is_none(helper: Helper, job: dict[str, Any]) -> None:
    assert "refused" in ask(helper, {"verb": "schedule", "app": "shop", "jobs": [job]})


# ---------------------------------------------------------------- nginx

DOMAINS = st.lists(
    st.from_regex(r"(\*\.)?[a-z0-9]{1,9}(-[a-z0-9]{1,9})?(\.[a-z]{2,9}){1,3}", fullmatch=True)
    | HOSTILE
    | st.sampled_from(["a.b;", "a.b { }", "a.b\n}", "$host", "~^(.*)$", "_", "", '"', "a..b"]),
    min_size=1, max_size=4,
)  # fmt: skip
HOSTILE_SITES = st.lists(
    st.fixed_dictionaries(
        {
            "app": LABELS | HOSTILE,
            "domains": DOMAINS,
            "ports": st.lists(st.integers(1024, 65535), min_size=2, max_size=2)
            | st.lists(st.integers() | ANY, max_size=3),
        }
    ),
    max_size=3,
)


@EXAMPLES
@given(HOSTILE_SITES | ANY)
def test_nginx_is_told_names_and_ports_alone(helper: Helper, sites: Any) -> None:
    answer = ask(helper, {"verb": "proxy", "sites": sites})
    if "refused" in answer:
        return
    route = helper.server / "routes" / "APP"
    challenges = helper.server / "challenges"
    shape = Site("APP", ("DOMAIN",), {1: 1111, 2: 2222}, route, challenges=challenges)
    known = set()
    for ipv6 in (True, False):
        text = system_nginx.render(
            [shape],
            ipv6=ipv6,
            connections=system_nginx.worker_connections(),
            directory=helper.root / "nginx",
            log=helper.root / "nginx" / "gatling-requests",
        )
        known |= {line.strip() for line in text.splitlines()}
    domain = rf"(?:\*\.)?{NAME}(?:\.{NAME})*"
    patterns = [
        re.escape(line)
        .replace("DOMAIN", f"{domain}(?: {domain})*")
        .replace("routes/APP", f"routes/{NAME}")
        .replace("gatling_app\\ APP;", f"gatling_app\\ {NAME};")
        .replace("APP\\.d/\\*\\.conf\"", f"{NAME}\\.d/\\*\\.conf\"")
        .replace("1111", "[1-9][0-9]{3,4}")
        .replace("2222", "[1-9][0-9]{3,4}")
        for line in known
    ]  # fmt: skip
    may_be = re.compile("|".join(patterns), re.ASCII)
    for line in (helper.root / "nginx/sites.conf").read_text().splitlines():
        assert may_be.fullmatch(line.strip()), line


@settings(EXAMPLES, max_examples=15)
@given(HOSTILE_SITES)
@example([{"app": "shop", "domains": ["a.example", "*.b.example"], "ports": [2000, 2001]}])
def test_nginx_takes_what_is_not_refused(helper: Helper, sites: Any) -> None:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("there is no nginx here")
    answer = ask(helper, {"verb": "proxy", "sites": sites})
    if "refused" in answer:
        return
    text = (helper.root / "nginx/sites.conf").read_text()
    text = text.replace(" listen [::]:80;", "").replace(" listen [::]:80 default_server;", "")
    conf = helper.root / "nginx" / "sites.conf"
    conf.write_text(
        f"pid {helper.root}/nginx.pid; error_log stderr; events {{ }} http {{ access_log off;\n"
        + "".join(f"{kind}_temp_path {helper.root}/temporary;\n"
                  for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        + text.replace("listen 80", f"listen unix:{helper.root}/socket")
        + "}\n"
    )  # fmt: skip
    done = subprocess.run(
        [program, "-t", "-q", "-c", str(conf)], check=False, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    for name in ("nginx.pid", "socket", "temporary"):
        path = helper.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr + text
    conf.unlink()


def test_the_log_of_requests_is_rotated_when_it_is_large(
    helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_rotation, "ROTATE_BYTES", 100)
    ask(helper, {"verb": "proxy", "sites": [
        {"app": "shop", "domains": ["a.example"], "ports": [2000, 2001]}
    ]})  # fmt: skip
    log = helper.root / "nginx" / "gatling-requests"
    assert log.stat().st_mode & 0o777 == 0o640
    log.write_bytes(b"x" * 99)
    helper.calls.clear()
    assert ask(helper, {"verb": "proxy-rotate"}) == {}
    assert helper.calls == []
    log.write_bytes(b"x" * 100)
    assert ask(helper, {"verb": "proxy-rotate"}) == {}
    assert helper.calls == [
        ["systemctl", "kill", "--signal=USR1", "--kill-whom=main", "nginx.service"]
    ]
    assert (log.stat().st_size, log.stat().st_mode & 0o777) == (0, 0o640)
    assert log_rotation.numbered(log, 1).stat().st_size == 100


def test_a_request_loads_only_what_its_verb_needs() -> None:
    """Each request is a process of its own, and most configure no proxy."""
    script = (
        f"import sys; sys.path.append({str(Path(service.__file__).parents[4])!r})\n"
        "import gatling.platform.server.helper.service\n"
        "print([m for m in ('msgspec', 'hashlib', 'gatling.proxy', 'click') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"


def test_a_request_has_a_limit_of_processor_time_but_readers_of_logs_have_none() -> None:
    assert "\nLimitCPU=900\n" in units.helper_service(Path("/x"))
    assert "LimitCPU" not in units.logs_service(Path("/x"))


def test_each_later_attempt_has_a_timer_of_its_own(helper: Helper) -> None:
    for app in ("shop", "shop-2"):
        ask(helper, {"verb": "app", "app": app, "limits": {}, "stop": 30})
    calls: list[list[str]] = []
    for _ in range(3):  # systemd refuses a timer whose service is running: that of who asks
        helper.forget()
        assert ask(helper, {"verb": "certificate-obtain", "app": "shop", "after": 60}) == {}
        calls += helper.calls
    stops, runs = calls[::2], calls[1::2]
    assert stops == [["systemctl", "stop", "gatling-obtain-shop.later*.timer"]] * 3
    names = {next(word for word in argv if word.startswith("--unit=")) for argv in runs}
    assert len(names) == 3
    pattern = re.compile(fnmatch.translate(stops[0][2]))
    assert all(pattern.match(name.removeprefix("--unit=") + ".timer") for name in names)
    assert not pattern.match("gatling-obtain-shop-2.later-00.timer")
    assert all("--property=Slice=gatling-certificates.slice" in argv for argv in runs)


def test_all_apps_are_one_unit(helper: Helper) -> None:
    assert ask(helper, {"verb": "certificate-obtain", "every": True}) == {}
    start = ["systemctl", "start", "--no-block", "gatling-certificates.service"]
    assert helper.calls == [start]
    unit = obtaining.service(COMMAND)
    assert "Slice=gatling-certificates.slice\n" in unit
    assert "TimeoutStartSec=21600\n" in unit
    assert unit.count("TimeoutStartSec") == 1
    assert "MemoryMax" in obtaining.all_together()


def test_certificates_go_after_the_directory_of_their_app(
    helper: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(helper, {"verb": "app", "app": "shop", "limits": {}, "stop": 30})
    there: list[bool] = []
    seen = lambda name: there.append((helper.server / "apps" / name).exists())  # noqa: E731
    monkeypatch.setattr(certificates, "forget", seen)
    assert ask(helper, {"verb": "forget", "app": "shop"}) == {}
    assert there == [False], "a request would have made another one"
