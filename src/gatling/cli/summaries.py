"""One line for each command, so that the help of all loads none of them.

A test compares them with the commands' own texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SUMMARIES: Mapping[str, str] = {
    "init": "Write a gatling.toml with all keys commented out to the current directory.",
    "remote": "Connect the project here to a server.",
    "load": "Create the app APP, so that you can push to it.",
    "unload": "Stop APP and delete its repository, releases, config and logs.",
    "apps": "List the apps.",
    "status": "Show the state of APP: release, instance, domains, workers.",
    "stats": "Show the numbers of APP: requests, latencies, memory, processes, run queues, ETS tables.",
    "top": "Watch APP in a terminal: processes, memory, run queues, requests, ETS tables, queries.",
    "metrics": "Print the numbers of all apps in the text format of Prometheus.",
    "info": "Show what is set for APP: addresses, branches, toolchain, config names, settings.",
    "open": "Open APP in your browser, or print its URL where there is no browser.",
    "plan": "Show how a release would replace the live one (hot, rolling or restart), and why.",
    "deploy": "Deploy a retained release (v7), or build a commit, branch or tag that was pushed.",
    "rollback": "Make RELEASE, or the previous release, live again, with the config that it had.",
    "restart": "Replace the running instance with a new instance of the live release.",
    "start": "Start APP after `gatling stop`.",
    "stop": "Stop APP.",
    "move": "Move APP to a cluster, or back to this machine, with its release, config and history.",
    "scale": "Set, or show, how many instances of each worker run.",
    "build": "Manage the files that an app's builds keep for the next build.",
    "releases": "List all releases of APP, newest first, or show what one release brought.",
    "diff": "Compare two releases of APP: commits, files, config names, gatling.toml, toolchain.",
    "deployments": "List the deployments of APP, or show one with its steps, probe report and output.",
    "config": "Manage the environment variables of an app.",
    "settings": "Manage settings of an app: health check, time limits, deploy branch, retention.",
    "deploy-key": "Manage the SSH key with which builds read private git dependencies and submodules.",
    "domains": "Manage the domains of an app.",
    "certificates": "Manage the certificates with which an app's domains are served over HTTPS.",
    "db": "Manage PostgreSQL databases of apps on this host.",
    "toolchain": "Manage the versions of Elixir and Erlang/OTP that builds can use.",
    "platform": "Manage the Kubernetes clusters that this home knows, and check them.",
    "auth": "Protect an app's domains with passwords.",
    "maintenance": "Show a maintenance page (status 503) instead of an app, which keeps running.",
    "lock": "Refuse deployments of APP until `gatling unlock`, for example during a release freeze.",
    "unlock": "Allow deployments of APP again.",
    "drains": "Send the log of an app to a log server, as it is printed.",
    "watch": "Keep the numbers of all apps over time, and notify of those out of range.",
    "tokens": "Manage the tokens of programs that use the HTTP API (`gatling api`).",
    "dashboard": "Open the dashboard in your browser: apps, numbers, deployments, logs.",
    "api": "Serve the HTTP API on a Unix socket or on loopback, until it is stopped.",
    "notify": "Send notifications of failures to webhooks, mail addresses and chat services.",
    "logs": "Show the output of APP's instances and workers, with time and release.",
    "run": "Run a one-off command with the code and config of the live or another release.",
    "console": "Open a remote shell on the running node of APP.",
    "jobs": "Manage the scheduled jobs of an app: [schedule.NAME] in gatling.toml.",
    "audit": "Show who changed what, newest first.",
    "server": "Manage the host: installation, SSH keys, backup.",
    "up": "Start the supervisor, the proxy and all apps that are not stopped.",
    "down": "Stop all apps, the proxy and the supervisor.",
    "whoami": "Show who you are to Gatling: name, role, apps, host.",
    "doctor": "Check your setup and say how to fix each fault.",
    "help": "List all commands, or show the help of one.",
    "completion": "Print the completion script for SHELL: bash, zsh or fish.",
    "version": "Print the version of Gatling on this machine, and on the server of the project here.",
}
"""Command → what it is for; hidden commands are not among them."""
