"""The examples of the commands' help, run one after another."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli import examples
from tests.conftest import warm

if TYPE_CHECKING:
    from tests.conftest import World

pytestmark = pytest.mark.timeout(1800)

ELSEWHERE = {
    "gatling load shop --platform prod": "needs a cluster: tests/cluster",
    "gatling scale shop web=3": "needs a cluster: tests/cluster",
    "gatling move shop --to prod": "needs a cluster: tests/cluster",
    "gatling move shop --to here": "needs a cluster: tests/cluster",
    "gatling move shop --finish": "needs a cluster: tests/cluster",
    "gatling stats shop --instance shop-5d4f8c7b9-x2x4z": "needs a cluster: tests/cluster",
    "source <(gatling completion bash)": "a shell's start: cli/test_completion.py",
    "gatling completion zsh > ~/.zfunc/_gatling": "a shell's start: cli/test_completion.py",
    "gatling completion fish > ~/.config/fish/completions/gatling.fish": "a shell's start",
    "gatling up --listen 0.0.0.0:80": "the port is the machine's",
    "gatling up --tls": "the port is the machine's: test_tls.py",
    "gatling up --tls 127.0.0.1:4443": "the port is the machine's: test_tls.py",
    "gatling certificates authority": "needs HTTPS: test_tls.py",
    "gatling certificates authority --pem > gatling.crt": "needs HTTPS: test_tls.py",
    "gatling certificates authority --new": "needs HTTPS: test_tls.py",
    "gatling init --github-actions": "needs the git remote of a server: cli/test_init.py",
    "gatling remote add gatling@web1.example.com": "needs a server: test_remotes.py",
    "gatling remote add web1.example.com:2222 --app shop --no-check": "needs a git repository",
    "gatling console shop": "needs a terminal: test_commands.py",
    "gatling logs shop -f": "goes on until it is interrupted: test_commands.py",
    "gatling deployments shop --follow": "needs one under way: test_releases.py",
    "gatling logs shop --job report -f": "goes on until it is interrupted",
    "gatling jobs cancel shop report": "needs a run under way: test_jobs.py",
    "gatling domains add store shop.example.com --from shop": "tests/home/test_rename.py",
    "cat fullchain.pem privkey.pem | gatling certificates add shop": "a server's: tests/server",
    "gatling certificates remove shop 5e2b9d10 --confirm shop": "a server's: tests/server",
    "gatling certificates account --email ops@example.com": "a server's: server/test_acme.py",
    "gatling certificates account --email ops@example.com --profile shortlived": "a server's:"
    " ca/test_authority.py",
    "gatling certificates account --email ops@example.com --eab-kid k1 --eab-key-file key": "a"
    " server's: ca/test_authority.py",
    "gatling certificates account": "a server's: server/test_acme.py",
    "gatling certificates dns --server ns1.example.com --key-file tsig.key": "ca/test_dns.py",
    "gatling certificates dns --program /etc/gatling/dns-records": "server/test_acme.py",
    "gatling certificates dns": "a server's: server/test_acme.py",
    "gatling certificates issue shop": "a server's: server/test_acme.py",
    "gatling certificates renew": "a server's: server/test_acme.py",
    "gatling certificates renew shop": "a server's: server/test_acme.py",
    "gatling notify add team - < slack-url": "needs a token: operations/test_notices.py",
    "gatling notify add ops https://hooks.example.com/gatling": "of the same name as another",
    "gatling drains add shop - < url": "needs an address: operations/test_drains.py",
    "gatling drains run shop.1": "goes on until it is removed: operations/test_drains.py",
    "gatling api": "goes on until it is ended: tests/api",
    "gatling api --listen 127.0.0.1:8090": "goes on until it is ended: tests/api",
    "gatling dashboard": "goes on until it is ended: tests/dashboard",
    "gatling --host example.com dashboard": "goes on until it is ended: tests/dashboard",
    "gatling dashboard --print --port 8099": "goes on until it is ended: tests/dashboard",
    "gatling watch run": "goes on until it is ended: operations/test_stats.py",
    "gatling top shop": "needs a terminal: cli/test_top.py",
    "gatling top shop --interval 5": "needs a terminal: cli/test_top.py",
    "gatling notify test ops": "needs a mail server: operations/test_notices.py",
    "gatling toolchain install 1.18/27": "needs a mirror: push/test_toolchain.py",
    "gatling toolchain install 1.18 --from /opt/beam/27": "platform/test_toolchains.py",
    "gatling toolchain remove 1.17.3-otp-26": "needs an installed one: push/test_toolchain.py",
    "gatling toolchain use shop 1.18/27": "needs an installed one: push/test_toolchain.py",
    **dict.fromkeys(
        (
            (
                "gatling platform add prod --kubeconfig shop.kubeconfig --registry"
                " registry.example.com/team"
            ),
            "gatling platform add prod --namespace shop < shop.kubeconfig",
            "gatling platform check prod",
            "gatling platform remove prod",
        ),
        "needs a cluster: tests/cluster",
    ),
    "gatling db backup shop": "test_backups.py",
    "gatling db backup shop --full": "test_backups.py",
    "gatling db backups shop": "test_backups.py",
    "gatling db restore shop": "test_backups.py",
    "gatling db restore shop --to '2026-01-31 14:05:00' --as shop-before": "test_backups.py",
    "gatling db restore shop --to v12": "test_restore_points.py",
    "gatling db repository directory --encrypt": "test_encrypted.py",
    "gatling db repository s3://backups --endpoint s3.example --region eu --stdin < keys": "S3",
    "gatling db repository sftp://me@nas/shop --key-file /srv/key --fingerprint SHA256:…": "sshd",
    "gatling rollback shop v4 --with-data": "test_rewinds.py",
    "gatling db fork shop shop-try": "test_forks.py",
    "gatling db fork shop shop-staging --scrub scrub.sql": "test_forks.py",
    "gatling db fork shop shop-empty --schema-only": "test_forks.py",
    "gatling db fork shop shop-try --destroy": "test_forks.py",
    "gatling db pool shop": "test_pools.py",
    "gatling db volume": "a server's: server/test_upgrades.py",
    "gatling db volume create --size 20G": "a server's: server/test_upgrades.py",
    "gatling db volume create --size 20G --move": "a server's: server/test_upgrades.py",
    "gatling db volume grow --size 40G": "a server's: server/test_upgrades.py",
    "gatling db pool shop --size 40": "test_pools.py",
    "gatling db pool shop --off": "test_pools.py",
    "gatling db promote shop": "test_backups.py",
    "gatling db promote shop --name shop-before": "test_backups.py",
    "gatling db schedule shop": "test_backups.py",
    "gatling db schedule shop --at 03:15": "test_backups.py",
    "gatling db schedule shop --keep 4 --days 28": "test_backups.py",
    "gatling db schedule shop --off": "test_backups.py",
    "gatling db upgrade shop --to 17 --rehearse": "test_upgrades.py",
    "gatling db upgrade shop --to 17": "test_upgrades.py",
    "gatling db upgrade shop --undo --confirm shop": "test_upgrades.py",
    "gatling db create shop": "needs PostgreSQL, and is not for root: test_databases.py",
    "gatling db create shop --version 17 --no-restart": "needs PostgreSQL 17",
    "gatling db create shop --name shop-events --as EVENTS_URL": "test_databases.py",
    "gatling db info shop": "needs a database: test_databases.py",
    "gatling db psql shop": "needs a terminal",
    "gatling db psql shop -- -c 'SELECT count(*) FROM orders'": "test_databases.py",
    "gatling db attach reports shop --read-only": "needs a database: test_databases.py",
    "gatling db attach admin shop --as SHOP_URL": "needs a database: test_databases.py",
    "gatling db detach reports --name shop": "needs a database: test_databases.py",
    "gatling db destroy shop --confirm shop": "needs a database: test_databases.py",
    'echo "$old $new refs/heads/main" | gatling receive shop': "git runs it, at every push",
}
"""What is only parsed here, and why; so are the commands of a server (tests/server)."""

LATE = [
    "gatling rollback shop v4 --confirm shop",
    "gatling deploy-key remove shop",
    "gatling stop shop",
    "gatling start shop",
    "gatling down",
    "gatling up",
    "gatling unload shop --confirm shop",
    "gatling load shop",
    "gatling unload shop --confirm shop",
    "gatling load shop --dir apps/shop",
]
"""In this order after all others: what would keep them from working, and what needs them."""

RELEASE = 'defmodule Shop.Release do\n  def migrate, do: IO.puts("migrated")\nend\n'
MANIFEST = """\
[processes]
worker = "wait"
mailer = "wait"

[schedule.report]
cron = "@monthly"
command = "migrate"
"""
PROGRAMS = {"migrate": "echo migrated", "wait": "exec sleep infinity"}
"""Programs of the release. Workers without a BEAM do: they are started again with each release."""
WITH_WORKERS = (
    "gatling restart shop --process worker",
    "gatling scale shop",
    "gatling scale shop worker=3 mailer=0",
    "gatling logs shop --process worker",
)
"""They come first, and the rest without workers: a deployment watches each for two seconds."""
OURS = {"v7": "v3", "v4": "v2"}
"""What stands for releases that the examples name: there need not be so many."""
FILES = {"url": "ecto://db.example/shop", "key.pem": "secret", "password": "correct horse\n"}


def test_examples_of_help(world: World) -> None:
    lines = list(dict.fromkeys(line for _, line in examples.of_help()))
    known = [*ELSEWHERE, *LATE]
    assert {*known, *WITH_WORKERS} <= set(lines), "an example that is no longer there"
    project = world.load(strategy="restart")
    world.run("settings", "set", "shop", "instance.drain=0")
    project.write("lib/shop/release.ex", RELEASE)
    project.write("gatling.toml", MANIFEST)
    for name, command in PROGRAMS.items():
        project.write(f"rel/overlays/bin/{name}", f"#!/bin/sh\n{command}\n")
        (project.directory / "rel/overlays/bin" / name).chmod(0o755)
    commit = project.commit("what the examples call")
    project.push()
    world.run("scale", "shop", "worker=0", "mailer=0")
    for number in range(2, 5):
        world.run("config", "set", "shop", f"DATABASE_URL=ecto://localhost/{number}")
    world.run("domains", "add", "shop", "staging.example.com")
    place = world.root / "projects/shop"
    place.mkdir(parents=True)
    for name, text in FILES.items():
        (place / name).write_text(text)

    rest = [line for line in lines if line not in {*known, *WITH_WORKERS}]
    local = [line for line in rest if "gatling server" not in line]
    failures, newest = [], world.last()["id"]
    env = world.env | {"HOME": str(world.root), "PATH": f"{warm().directory}:{world.env['PATH']}"}
    scaled = ("gatling scale shop worker=1 mailer=1", *WITH_WORKERS, "gatling scale shop worker=0")
    for line in [*scaled, *local, *LATE]:
        real = line.replace("3f2a91c", commit[:7]).replace(" 12", f" {newest}")
        real = re.sub(r"\bv[47]\b", lambda name: OURS[name[0]], real)
        with (place / "password").open() as given:
            done = subprocess.run(
                ["sh", "-c", real], cwd=place, env=env, check=False, stdin=given,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
            )  # fmt: skip
        if done.returncode != 0 or "Traceback" in done.stdout:
            failures.append(f"{real}\n{done.stdout}")
    assert failures == [], "\n".join(failures)
    assert "[health]" in (place / "gatling.toml").read_text()
