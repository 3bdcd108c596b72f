"""One line for each command, so that the help of all loads none of them.

A test compares them with the commands' own texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SUMMARIES: Mapping[str, str] = {
    "init": "Write a gatling.toml with all keys, commented out, into the current directory.",
    "load": "Make the app APP, ready to be pushed to.",
    "unload": "Stop APP and remove everything of it: repository, releases, config, logs.",
    "apps": "List the apps.",
    "status": "Show what APP runs, and where.",
    "plan": "Show how a kept release would replace the live one: hot, rolling or restart, and why.",
    "deploy": "Deploy a kept release (v7), or build a commit, branch or tag that was pushed.",
    "rollback": "Go back to RELEASE, or to the one that was live before; its config comes back with it.",
    "restart": "Start the live release anew, beside itself, and switch to the new instance.",
    "start": "Start APP after `gatling stop`.",
    "stop": "Stop APP; its domains answer 503 until it is started or deployed again.",
    "scale": "Let so many instances of a process run, from now on; or show how many there are.",
    "build": "Manage what builds of an app keep for the next build.",
    "releases": "List all releases of APP, the newest first, also those no longer kept.",
    "deployments": "List the deployments of APP, or show one with its steps, its proof and its output.",
    "config": "The environment variables of an app.",
    "settings": "How Gatling treats an app: health check, time limits, deploy branch, retention.",
    "deploy-key": "The SSH key by which builds of an app read private git dependencies and submodules.",
    "domains": "The names under which an app is reached.",
    "auth": "Passwords for an app's domains: whoever has none does not reach the app.",
    "maintenance": "A page instead of the app, with status 503; the app runs on, and can be deployed.",
    "logs": "Show what the instances and processes of APP printed, with time and release.",
    "run": "Run a one-off command with the code and config of the live release, or of another.",
    "console": "Open a remote shell on the running node of APP (leave it with Ctrl-C twice).",
    "jobs": "What an app runs by a schedule: gatling.toml's [schedule.NAME], or settings schedule.NAME.*.",
    "audit": "Show who did what, the newest first.",
    "server": "The host itself: installation, keys, backup.",
    "up": "Start everything: supervisor, proxy and all apps that shall run.",
    "down": "Stop everything; `gatling up` brings back what was running.",
}
"""Command → what it is for; hidden commands are not among them."""
