"""The units of jobs on a server as text: pure, and root's word only.

A timer for each job starts `gatling-job@APP.JOB.service`, which only starts a unit of its own for
the run, and has ended: so a time at which the job still runs is seen, and Gatling decides what it
means. systemd.timer(5); what is due when is systemd.time(7)'s OnCalendar=.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gatling.platform.server.units import ATTENDING, OWNER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SERVICE = "gatling-job@.service"
TIMERS = "gatling-job@*.timer"
WANTS = "timers.target.wants"

NAME = re.compile(r"(?!web\Z)[a-z][a-z0-9_-]{0,30}", re.ASCII)
MAX_JOBS = 30


def _list(one: str) -> str:
    return rf"(?:\*|(?:{one})(?:,(?:{one}))*)"


_DAYS = r"(?:Sun|Mon|Tue|Wed|Thu|Fri|Sat)"
_DATE = rf"\*-{_list('[1-9]|1[0-2]')}-{_list('[1-9]|[12][0-9]|3[01]')}"
_TIME = rf"{_list('1?[0-9]|2[0-3]')}:{_list('[1-5]?[0-9]')}:00"
CALENDAR = re.compile(rf"(?:{_DAYS}(?:,{_DAYS})* )?{_DATE} {_TIME}", re.ASCII)
"""All that project.schedule.calendars writes, and little else."""
MAX_CALENDAR = 600


def timer(app: str, job: str) -> str:
    """The unit that says when a job is due; neither name has a dot."""
    return f"gatling-job@{app}.{job}.timer"


def timers(app: str) -> str:
    """The pattern of an app's timers."""
    return f"gatling-job@{app}.*.timer"


def runs(app: str) -> list[str]:
    """Patterns of the units of an app's runs: Gatling, who attends to them, and the programs."""
    return [f"gatling-job-{app}.*.service", f"gatling-run-{app}.*.service"]


def text(app: str, job: str, calendars: Sequence[str]) -> str:
    """Return the text of a timer. Like cron, it does not catch up on missed runs."""
    times = "".join(f"OnCalendar={calendar}\n" for calendar in calendars)
    return f"""\
# Written by Gatling.
[Unit]
Description=Gatling: times of the job {app}.{job}

[Timer]
{times}AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def service(command: Path) -> str:
    """gatling-job@.service: what a timer starts; its words are constant but for the name."""
    properties = " ".join(f"--property={line}" for line in ATTENDING).replace("%", "%%")
    return f"""\
# Written by Gatling. Starts a run in a unit of its own, as {OWNER}, and ends.
[Unit]
Description=Gatling: the job %i is due
After=gatling-recover.service gatling-helper.socket

[Service]
Type=oneshot
ExecStart=/usr/bin/systemd-run --no-block --collect --quiet \\
    --unit=gatling-job-%i.${{INVOCATION_ID}} --uid={OWNER} --gid={OWNER} \\
    --setenv=LANG=C.UTF-8 {properties} \\
    {command} job %i
"""
