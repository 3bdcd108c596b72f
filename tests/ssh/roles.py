"""Each command as it is typed over SSH, with the least role that may use it.

The table is written by hand, beside the lists in ssh/policy, so that a command which moves to
another role, or is new, is a decision here as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gatling.errors import Exit

KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIODUsybq3cZr3fbKy2t/WtzvOvzOHgNhXrgKCg3nfp8n zoe\n"


@dataclass(frozen=True)
class Typed:
    """A command line, and what comes of it for an app to which nothing was pushed."""

    least: Literal["reader", "deployer", "admin", "nobody"]
    words: str
    """The arguments, with {app} for the app."""
    status: Exit = Exit.OK
    said: str = ""
    """A part of the output or of the error."""
    stdin: bytes = b""
    app: str = "shop"
    first: str = ""
    """A command line of an admin that comes before it."""


COMMANDS = {
    # -- reading
    "apps": Typed("reader", "", said="shop"),
    "status": Typed("reader", "{app}", said="shop"),
    "stats": Typed("reader", "{app}", said="requests"),
    "metrics": Typed("reader", "", said="gatling_app_up"),
    "info": Typed("reader", "{app}", said="shop.localhost"),
    "open": Typed("reader", "{app}", said="shop.localhost"),
    "whoami": Typed("reader", "", said="reader"),
    "help": Typed("reader", "logs", said="gatling logs"),
    "version": Typed("reader", ""),
    "completion": Typed("reader", "bash", said="complete"),
    "releases": Typed("reader", "{app}"),
    "diff": Typed("reader", "{app} v1", Exit.INVALID, "no live release"),
    "deployments": Typed("reader", "{app}"),
    "logs": Typed("reader", "{app} -n 5"),
    "plan": Typed("reader", "{app} v1", Exit.NOT_FOUND, "v1"),
    "audit": Typed("reader", "{app}"),
    "dashboard": Typed("reader", "", Exit.INVALID, "own machine"),
    "domains list": Typed("reader", "{app}", said="shop.localhost"),
    "certificates list": Typed("reader", "{app}"),
    "toolchain list": Typed("reader", ""),
    "db list": Typed("reader", ""),
    "db forks": Typed("reader", ""),
    "db backups": Typed("reader", "{app}", Exit.NOT_FOUND, "has no database"),
    "db info": Typed("reader", "{app}", Exit.NOT_FOUND, "has no database"),
    "certificates show": Typed("reader", "{app}", said="no certificate"),
    "auth list": Typed("reader", "{app}"),
    "settings list": Typed("reader", "{app}"),
    "jobs list": Typed("reader", "{app}"),
    "jobs runs": Typed("reader", "{app}"),
    # -- deploying, code and secrets
    "load": Typed("deployer", "{app}", app="new"),
    "deploy": Typed("deployer", "{app}", Exit.NOT_FOUND),
    "rollback": Typed("deployer", "{app} v1", Exit.INVALID, "not been deployed"),
    "restart": Typed("deployer", "{app}", Exit.INVALID),
    "start": Typed("deployer", "{app}", Exit.INVALID),
    "stop": Typed("deployer", "{app}", said="stopped"),
    "scale": Typed("deployer", "{app} web=1", Exit.INVALID),
    "build clean": Typed("deployer", "{app}"),
    "run": Typed("deployer", "{app} -- eval 1", Exit.INVALID),
    "top": Typed("deployer", "{app}", Exit.INVALID, "needs a terminal"),
    "console": Typed("deployer", "{app}", Exit.INVALID),
    "config list": Typed("deployer", "{app}", said="SECRET_KEY_BASE"),
    "config get": Typed("deployer", "{app} SECRET_KEY_BASE"),
    "config set": Typed("deployer", "{app} A=1"),
    "config unset": Typed("deployer", "{app} SECRET_KEY_BASE"),
    "deploy-key create": Typed("deployer", "{app}", said="ssh-ed25519"),
    "deploy-key show": Typed(
        "deployer", "{app}", said="ssh-ed25519", first="deploy-key create shop"
    ),
    "deploy-key remove": Typed("deployer", "{app}", first="deploy-key create shop"),
    "settings set": Typed("deployer", "{app} deploy.branch=live"),
    "settings unset": Typed(
        "deployer", "{app} deploy.branch", first="settings set shop deploy.branch=live"
    ),
    "domains add": Typed("deployer", "{app} shop.example.com"),
    "domains remove": Typed(
        "deployer", "{app} shop.example.com", first="domains add shop shop.example.com"
    ),
    "certificates issue": Typed("deployer", "{app}", Exit.INVALID, "local authority"),
    "certificates renew": Typed("deployer", "{app}", Exit.INVALID, "local authority"),
    "certificates add": Typed("deployer", "{app}", Exit.INVALID, stdin=b"no certificate"),
    "certificates remove": Typed("deployer", "{app} shop.example.com", Exit.NOT_FOUND),
    # in an embedded home of root's, as that of these tests may be, none can be created
    "db create": Typed("deployer", "{app} --name Shop", Exit.INVALID),
    "db psql": Typed("deployer", "{app}", Exit.NOT_FOUND, "has no database"),
    "db attach": Typed("deployer", "{app} {app}", Exit.NOT_FOUND, "has no database"),
    "db backup": Typed("deployer", "{app}", Exit.NOT_FOUND, "has no database"),
    "db upgrade": Typed("deployer", "{app} --to 17", Exit.NOT_FOUND, "has no database"),
    "db restore": Typed("deployer", "{app}", Exit.NOT_FOUND, "has no database"),
    "db fork": Typed("deployer", "{app} shop-try", Exit.NOT_FOUND, "has no database"),
    "db pool": Typed("deployer", "{app}", Exit.NOT_FOUND, "has no database"),
    "db promote": Typed("deployer", "{app}", Exit.NOT_FOUND, "has no database"),
    "db schedule": Typed("deployer", "{app}", Exit.NOT_FOUND, "has no database"),
    "db detach": Typed("deployer", "{app}", Exit.NOT_FOUND, "has no database"),
    "toolchain use": Typed("deployer", "{app} system", said="built with system"),
    "auth add": Typed("deployer", "{app} shop.localhost ann", stdin=b"correct horse\n"),
    "auth remove": Typed("deployer", "{app} shop.localhost ann", Exit.NOT_FOUND),
    "maintenance on": Typed("deployer", "{app}"),
    "maintenance off": Typed("deployer", "{app}"),
    "lock": Typed("deployer", "{app}"),
    "unlock": Typed("deployer", "{app}", first="lock shop"),
    "jobs run": Typed("deployer", "{app} report", Exit.NOT_FOUND),
    "jobs cancel": Typed("deployer", "{app} report", Exit.NOT_FOUND),
    # -- the server and its keys
    "move": Typed("admin", "{app} --to other", Exit.NOT_FOUND, "no platform other"),
    "unload": Typed("admin", "{app} --confirm {app}"),
    "db destroy": Typed("admin", "{app}", Exit.NOT_FOUND, "has no database"),
    "certificates account": Typed("admin", "", Exit.NOT_FOUND, "no account"),
    "certificates authority": Typed("admin", "", Exit.NOT_FOUND, "no local authority"),
    "certificates dns": Typed("admin", "", Exit.NOT_FOUND, "cannot write records"),
    "doctor": Typed("admin", "", Exit.HOST, "`gatling up` starts the proxy"),
    "toolchain install": Typed("admin", "newest", Exit.INVALID, "1.18.4-otp-27"),
    "toolchain remove": Typed("admin", "9.9", Exit.NOT_FOUND),
    "toolchain source": Typed("admin", "--automatic on", said="A push installs"),
    "drains add": Typed("admin", "{app} https://logs.example.com/x", said="drain 1"),
    "drains list": Typed("reader", "{app}", said="no drains"),
    "drains remove": Typed("admin", "{app} 7", Exit.NOT_FOUND, "no drain 7"),
    "drains run": Typed("admin", "shop.7", Exit.NOT_FOUND, "no drain 7"),
    "watch on": Typed("admin", "", said="every ten seconds"),
    "watch off": Typed("admin", "", said="no more"),
    "watch show": Typed("reader", "{app}", said="No numbers"),
    "watch status": Typed("reader", "", said="off"),
    "watch run": Typed("nobody", ""),
    "api": Typed("nobody", ""),
    "notify add": Typed("admin", "ops mailto:ops@example.com", said="ops was added"),
    "notify list": Typed("admin", "", said="No channels"),
    "notify test": Typed("admin", "ops", Exit.NOT_FOUND, "no channel"),
    "notify remove": Typed("admin", "ops", Exit.NOT_FOUND, "no channel"),
    "notify deliver": Typed("admin", ""),
    "db scheduled": Typed("admin", ""),
    "db volume": Typed("admin", "", Exit.INVALID, "Only a server has a volume"),
    "db repository": Typed("admin", "", said="a directory of this machine"),
    "tokens add": Typed("admin", "ci --role reader", said="gatling_"),
    "tokens list": Typed("admin", "", said="No tokens"),
    "tokens remove": Typed("admin", "ci", Exit.NOT_FOUND, "no token"),
    "platform list": Typed("admin", "", said="No cluster"),
    "platform add": Typed("admin", "prod", Exit.INVALID, "not a kubeconfig", b"{}"),
    "platform check": Typed("admin", "prod", Exit.NOT_FOUND, "no platform prod"),
    "platform remove": Typed("admin", "prod", Exit.NOT_FOUND),
    "server keys add": Typed("admin", "zoe --role reader", said="zoe", stdin=KEY),
    "server keys list": Typed("admin", "", said="rita"),
    "server keys remove": Typed("admin", "rita"),
    # -- only on this machine
    "init": Typed("nobody", ""),
    "remote add": Typed("nobody", "gatling@web1"),
    "up": Typed("nobody", ""),
    "down": Typed("nobody", ""),
    "recover": Typed("nobody", "{app}"),
    "receive": Typed("nobody", "{app}"),
    "job": Typed("nobody", "shop.report"),
    "server install": Typed("nobody", ""),
    "server update": Typed("nobody", ""),
    "server uninstall": Typed("nobody", ""),
    "server check": Typed("nobody", ""),
    "server backup": Typed("nobody", "/tmp/backup"),
    "server restore": Typed("nobody", "/tmp/backup"),
}
RANKS = ("reader", "deployer", "admin", "nobody")
HOLDERS = {"reader": "rita", "deployer": "bob", "admin": "ann"}
"""The holder of a key of each role, of the app shop alone but for the admin: see visits."""


def may(role: str, command: str) -> bool:
    """Whether a role is enough for a command."""
    return RANKS.index(role) >= RANKS.index(COMMANDS[command].least)


def line(command: str, app: str = "") -> str:
    """The command line that is typed."""
    typed = COMMANDS[command]
    return f"{command} {typed.words.format(app=app or typed.app)}".rstrip()
