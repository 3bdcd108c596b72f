"""The JSON of commands that list records: fields, their order, and what is left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gatling.platform.open import open_gatling
from gatling.state import apps, deployments, keys, passwords, releases, runs

if TYPE_CHECKING:
    from tests.cli.conftest import Shell

JOB = {"schedule.report.command": "bin/shop eval Report.run", "schedule.report.cron": "0 3 * * *"}
PROBE = {"requests": 77, "failed": 0, "https": False}
PLAIN = {"commit": "a" * 40, "author": None, "subject": None, "version": "0.1.0",
         "created_at": "2026-01-01T00:00:00.000Z"}  # fmt: skip
BUILT = {"elixir": "1.18", "otp": "27", "bytes": 1_234_567}


@pytest.fixture
def full(shop: Shell) -> Shell:
    """With an app of which everything is on record."""
    with open_gatling() as gatling:
        db = gatling.db
        for number, base in ((1, None), (2, 1), (3, None)):
            releases.add(db, releases.Release(
                "shop", number, "config" if base else "build", base, "a" * 40, "shop", "0.1.0",
                "1.18", "27", 1_234_567, "2026-01-01T00:00:00.000Z", None, {"SECRET": "x"}, JOB,
            ))  # fmt: skip
        done = deployments.begin(db, "shop", cause="push", actor="ann", mark="m", commit="a" * 40)
        deployments.set_target(
            db, done.id, release=2, slot=1, strategy="rolling", reasons=("one", "two")
        )
        deployments.begin_step(db, done.id, 0, "build")
        deployments.end_step(db, done.id, 0, "succeeded", 1.5)
        apps.make_live(db, "shop", release=2, slot=1, config=None)
        deployments.end(db, done.id, "succeeded", seconds=2.5, probe=PROBE, suspended_ms=0.25)
        deployments.begin(db, "shop", cause="deploy v3", actor="bob", mark="m", commit=None)
        releases.mark_removed(db, "shop", 1)
        run = runs.begin(db, "shop", "report", cause="by hand", actor="ann", mark="m", release=2)
        runs.end(db, run.id, "failed", seconds=3.5, error="It exited with status 1.")
        keys.add(db, "ann", kind="ssh-ed25519", blob="AAAA", fingerprint="SHA256:x",
                 role="deployer", apps=["shop", "blog"])  # fmt: skip
        passwords.put(db, "shop", "*", "ann", "hash")
        db.execute("UPDATE deployments SET started_at = '2026-01-02T00:00:00.000Z'")
        db.execute("UPDATE runs SET started_at = '2026-01-03T00:00:00.000Z'")
        db.execute("UPDATE keys SET created_at = '2026-01-04T00:00:00.000Z'")
        db.execute("UPDATE audit SET at = '2026-01-05T00:00:00.000Z', actor = 'ann'")
    return shop


RUN = {"id": 1, "job": "report", "cause": "by hand", "actor": "ann", "release": "v2",
       "outcome": "failed", "error": "It exited with status 1.",
       "started_at": "2026-01-03T00:00:00.000Z", "seconds": 3.5}  # fmt: skip
FIRST = {"id": 1, "release": "v2", "previous": None, "commit": "a" * 40, "cause": "push",
         "actor": "ann", "strategy": "rolling", "reasons": ["one", "two"],
         "outcome": "succeeded", "error": None, "started_at": "2026-01-02T00:00:00.000Z",
         "seconds": 2.5, "steps": [{"name": "build", "seconds": 1.5, "outcome": "succeeded"}],
         "probe": PROBE, "suspended_ms": 0.25}  # fmt: skip
SECOND: dict[str, Any] = {
          "id": 2, "release": None, "previous": "v2", "commit": None, "cause": "deploy v3",
          "actor": "bob", "strategy": None, "reasons": [], "outcome": "running", "error": None,
          "started_at": "2026-01-02T00:00:00.000Z", "seconds": None, "steps": [], "probe": None,
          "suspended_ms": None}  # fmt: skip
RELEASES = [
    {"release": "v3", **PLAIN, "live": False, "kept": True, "ever_live": False,
     "origin": "build", "base": None, **BUILT},
    {"release": "v2", **PLAIN, "live": True, "kept": True, "ever_live": True,
     "origin": "config", "base": "v1", **BUILT},
    {"release": "v1", **PLAIN, "live": False, "kept": False, "ever_live": False,
     "origin": "build", "base": None, **BUILT},
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("releases", "shop"), RELEASES),
        (("deployments", "shop"), [SECOND, FIRST]),
        (("deployments", "shop", "1"), FIRST),
        (("jobs", "runs", "shop"), [RUN]),
        (("jobs", "runs", "shop", "report"), [RUN]),
        (("server", "keys", "list"),
         [{"name": "ann", "role": "deployer", "apps": ["blog", "shop"], "type": "ssh-ed25519",
           "fingerprint": "SHA256:x", "created_at": "2026-01-04T00:00:00.000Z"}]),
        (("audit", "shop"),
         [{"at": "2026-01-05T00:00:00.000Z", "actor": "ann", "app": "shop", "action": "load",
           "detail": ""}]),
        (("auth", "list", "shop"), [{"domain": "*", "user": "ann"}]),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)  # fmt: skip
def test_the_json_of(full: Shell, words: tuple[str, ...], wanted: Any) -> None:
    said = full.run(*words, "--json").out
    assert said == json.dumps(wanted, indent=2) + "\n"


def test_the_json_of_jobs(full: Shell) -> None:
    (job,) = full.json("jobs", "list", "shop")
    due = job.pop("next")
    assert "T03:00:00" in due
    assert list(job.items()) == list({
        "job": "report", "cron": "0 3 * * *", "command": "bin/shop eval Report.run",
        "timeout": 3600.0, "overlap": "skip", "last": RUN,
    }.items())  # fmt: skip
    full.run("stop", "shop")
    assert full.json("jobs", "list", "shop")[0]["next"] is None


def test_the_same_for_people(full: Shell) -> None:
    said = full.run("releases", "shop").out
    assert [line.split("  ")[-1].strip() for line in said.splitlines()[1:]] == [
        "never live", "live", "not retained"]  # fmt: skip
    said = full.run("deployments", "shop").out
    assert "0 of 77" in said
    said = full.run("deployments", "shop", "1").out
    assert said.startswith("Deployment 1 of shop: succeeded\npush by ann, ")
    assert "Its output is no longer retained." in said
    assert "report  0 3 * * *  bin/shop eval Report.run" in full.run("jobs", "list", "shop").out
    assert "by hand, ann" in full.run("jobs", "runs", "shop").out
