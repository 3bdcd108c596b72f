"""supervisord's configuration as text (supervisord.org/configuration.html): pure.

An app has two programs, `APP.1` and `APP.2`, and one for each of its processes (`APP.worker.1`).
Each runs whatever its slot's instance.json says (launch.py), and is started by Gatling only.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from gatling.platform.embedded import launch, pooler, postmaster

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.platform.embedded.home import EmbeddedHome

PROXY = "proxy"
"""The program that is nginx."""

SAMPLER = "sampler"
CLOCK = "clock"
"""The program that starts jobs and renewals when they are due."""

POOL_LOG = "pgbouncer.log"

SETTLED_SECONDS = 5
"""An exit within this time of the start counts as a failed start."""
RETRIES = 1_000_000_000
"""Failed starts in a row after which supervisord gives up: never."""


def main_configuration(home: EmbeddedHome, *, as_root: bool) -> str:
    """supervisord.conf: supervisord itself, the log sink, the proxy."""
    root = _escaped(home.root)
    user = "user=root\n" if as_root else ""
    return (
        "; Written by Gatling at each start.\n"
        "[supervisord]\n"
        f"logfile={root}/supervisor/supervisord.log\n"
        "logfile_maxbytes=1MB\nlogfile_backups=2\n"
        f"pidfile={root}/run/supervisord.pid\n"
        f"childlogdir={root}/supervisor\n"
        "umask=077\n"
        f"{user}"
        "[unix_http_server]\n"
        f"file={root}/run/supervisor.sock\nchmod=0600\n"
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        "[rpcinterface:gatling]\n"
        "supervisor.rpcinterface_factory=gatling.platform.embedded.logsink:make\n"
        f"apps={root}/apps\n"
        f"requests={root}/nginx/requests.log\n"
        f"[program:{PROXY}]\n{_options(home.nginx)}"
        f"stdout_logfile={root}/nginx/nginx.out.log\n"
        "stdout_logfile_maxbytes=1MB\nstdout_logfile_backups=1\n"
        "[include]\n"
        "files=apps/*.conf\n"
    )


def program(name: str, directory: Path) -> str:
    """One slot, whose directory says what runs in it; its output goes to the log sink."""
    return (
        f"[program:{name}]\n{_options(directory)}stdout_logfile=NONE\nstdout_events_enabled=true\n"
    )


def clock(home: EmbeddedHome) -> str:
    """The clock: supervisord starts it by itself, for it is configured while it is needed."""
    command = _command(
        sys.executable, "-I", "-m", "gatling.platform.embedded.clock", str(home.root)
    )
    return (
        f"[program:{CLOCK}]\ncommand={command}\n"
        f"directory={_escaped(home.root)}\n"
        "autostart=true\nautorestart=true\n"
        f"startsecs=1\nstartretries={RETRIES}\n"
        "stopsignal=TERM\nstopwaitsecs=5\n"
        "redirect_stderr=true\n"
        f"stdout_logfile={_escaped(home.supervisor)}/clock.log\n"
        "stdout_logfile_maxbytes=1MB\nstdout_logfile_backups=0\n"
    )


def database(name: str, data: Path, postgres: str, log: Path) -> str:
    """A PostgreSQL cluster, which runs for as long as supervisord does."""
    command = _command(sys.executable, "-I", "-S", str(postmaster.__file__), str(data), postgres)
    return (
        f"[program:{name}]\ncommand={command}\n"
        f"directory={_escaped(data)}\n"
        "autostart=true\nautorestart=true\n"
        f"startsecs=1\nstartretries={RETRIES}\n"
        # INT: a fast shutdown, which ends sessions and keeps all that was committed
        "stopsignal=INT\nstopwaitsecs=60\n"
        "redirect_stderr=true\n"
        f"stdout_logfile={_escaped(log)}\n"
        "stdout_logfile_maxbytes=5MB\nstdout_logfile_backups=2\n"
    )


def pool(name: str, directory: Path, pgbouncer: str) -> str:
    """The pool of an app, which runs for as long as supervisord does."""
    command = _command(sys.executable, "-I", "-S", str(pooler.__file__), str(directory), pgbouncer)
    return (
        f"[program:{name}]\ncommand={command}\n"
        f"directory={_escaped(directory)}\n"
        "autostart=true\nautorestart=true\n"
        f"startsecs=1\nstartretries={RETRIES}\n"
        # INT: PgBouncer waits for open transactions
        "stopsignal=INT\nstopwaitsecs=10\n"
        "redirect_stderr=true\n"
        f"stdout_logfile={_escaped(directory)}/{POOL_LOG}\n"
        "stdout_logfile_maxbytes=1MB\nstdout_logfile_backups=1\n"
    )


def drain(home: EmbeddedHome, name: str, which: str) -> str:
    """A log drain, `APP.NUMBER`: supervisord starts it by itself, for as long as there is one."""
    return _own_program(home, name, ("drains", "run", which), "drains.log")


def sampler(home: EmbeddedHome) -> str:
    """The program behind `gatling watch`, which runs while samples are wanted."""
    return _own_program(home, SAMPLER, ("watch", "run"), "watch.log")


def _own_program(home: EmbeddedHome, name: str, arguments: tuple[str, ...], log: str) -> str:
    command = _command(
        "/usr/bin/env", f"GATLING_HOME={home.root}",
        sys.executable, "-I", "-m", "gatling", *arguments,
    )  # fmt: skip
    return (
        f"[program:{name}]\ncommand={command}\n"
        f"directory={_escaped(home.root)}\n"
        "autostart=true\nautorestart=true\n"
        f"startsecs=1\nstartretries={RETRIES}\n"
        "stopsignal=TERM\nstopwaitsecs=5\n"
        "redirect_stderr=true\n"
        f"stdout_logfile={_escaped(home.supervisor)}/{log}\n"
        "stdout_logfile_maxbytes=1MB\nstdout_logfile_backups=0\n"
    )


def _command(*words: str) -> str:
    return " ".join(shlex.quote(word).replace("%", "%%") for word in words)


def _options(directory: Path) -> str:
    command = _command(sys.executable, "-I", "-S", str(launch.__file__), str(directory))
    return (
        f"command={command}\n"
        f"directory={_escaped(directory)}\n"
        "autostart=false\n"
        "autorestart=true\n"
        f"startsecs={SETTLED_SECONDS}\nstartretries={RETRIES}\n"
        # Gatling itself sends SIGKILL, after the time that the app's settings give
        "stopsignal=TERM\nstopwaitsecs=86400\nkillasgroup=true\n"
        "redirect_stderr=true\n"
    )


def _escaped(path: Path) -> str:
    """A path as a value in supervisord.conf, where % begins an expansion."""
    return str(path).replace("%", "%%")
