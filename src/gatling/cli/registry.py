"""The module that defines each command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "init": "init",
    "remote": "remotes",
    "load": "apps",
    "unload": "apps",
    "apps": "apps",
    "status": "apps",
    "stats": "stats",
    "top": "top",
    "metrics": "stats",
    "info": "info",
    "open": "info",
    "plan": "plan",
    "deploy": "deploy",
    "rollback": "deploy",
    "restart": "deploy",
    "start": "deploy",
    "stop": "deploy",
    "scale": "scale",
    "build": "build",
    "releases": "releases",
    "diff": "history",
    "deployments": "releases",
    "config": "config",
    "settings": "settings",
    "deploy-key": "deploy_key",
    "domains": "domains",
    "certificates": "certificates",
    "db": "db",
    "toolchain": "toolchain",
    "platform": "platform",
    "auth": "auth",
    "maintenance": "maintenance",
    "lock": "lock",
    "unlock": "lock",
    "logs": "logs",
    "drains": "drains",
    "notify": "notify",
    "run": "run",
    "console": "run",
    "jobs": "jobs",
    "audit": "home",
    "server": "server",
    "up": "home",
    "down": "home",
    "whoami": "whoami",
    "doctor": "doctor",
    "help": "help",
    "version": "help",
    "completion": "completion",
    "recover": "home",
    "receive": "gatling.ssh.hook",
    "job": "jobs",
}
"""Command → module, of this package unless it is named in full; loaded when the command is used."""
