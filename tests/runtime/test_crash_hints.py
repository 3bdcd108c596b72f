"""What is advised to do about a release that does not boot."""

from __future__ import annotations

import pytest

from gatling.runtime import crash_hints


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "** (RuntimeError) environment variable DATABASE_URL is missing.",
            "`gatling db create shop`",
        ),
        (
            '** (System.EnvError) could not fetch environment variable "API_KEY" because it is',
            "gatling config set shop API_KEY=",
        ),
        (
            "init terminating {#{'__struct__'=>'Elixir.System.EnvError',env=><<\"KEY\">>},[]}",
            "gatling config set shop KEY=",
        ),
        (
            "the name shop@127.0.0.1 seems to be in use by another Erlang node",
            "rel/env.sh.eex",
        ),
        ("[error] Failed to start Ranch listener: :eaddrinuse", "deploy.second_instance=never"),
        ("Shop cannot listen on port 9568: address already in use", "Derive each port from PORT"),
        ('{:not_closed, "/d/a.dets"}', "DETS"),
        ("** (MatchError) {:error, {:shop, {:dets.open_file, :x}}}", "DETS"),
        ("Mnesia(shop@127.0.0.1): ** ERROR ** (core dumped)", "RELEASE@127.0.0.1"),
        ("IO error: While lock file: /d/LOCK: Resource temporarily unavailable", "open"),
        ('(Postgrex.Error) ERROR 42P01 (undefined_table) relation "users"', "run shop migrate"),
        ("(DBConnection.ConnectionError) tcp connect (db:5432): nxdomain", "config list shop"),
        ("(UndefinedFunctionError) module :xmerl_scan is not available", "extra_applications"),
        ("/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found", "another machine"),
        ("** (File.Error) could not write to file: read-only file system", "$HOME"),
    ],
)
def test_the_cause_decides(said: str, advice: str) -> None:
    lines = ["12:00:00.000 [info] Booting", said, "init terminating in do_boot"]
    assert advice in crash_hints.fitting(lines, "shop")


def test_what_is_not_known_is_not_guessed() -> None:
    assert crash_hints.fitting(["12:00:00.000 [info] Booting", "Killed"], "shop") == ""
    assert crash_hints.fitting([], "shop") == ""


def test_the_more_certain_cause_wins() -> None:
    lines = ["connection refused", "environment variable POOL is missing"]
    assert "POOL" in crash_hints.fitting(lines, "shop")
