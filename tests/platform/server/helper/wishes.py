"""What apps may say of their proxy and their jobs, as requests to the helper have it."""

from __future__ import annotations

import re

from hypothesis import strategies as st

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "body_limit": st.sampled_from(["0", "20m", "2g"]),
        "read_timeout": st.integers(1, 86400),
        "buffering": st.booleans(),
        "redirect_www": st.sampled_from(["off", "to-apex", "to-www"]),
        "https": st.sampled_from(["off", "redirect"]),
        "headers": st.sampled_from(["", "X-A: b", "X-A: \"b\"; {c} | X-D: 'e'"]),
        "static": st.booleans(),
    },
)
PASSWORDS = st.dictionaries(
    st.sampled_from(["*", "a.example.com", "*.b.org"]),
    st.dictionaries(st.sampled_from(["ann", "ci@x"]), st.just("$6$salt$" + "h" * 86), min_size=1),
    max_size=2,
)
JOB = r"[a-z][a-z0-9_-]{0,30}"
JOBS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["report", "a", "b_2-c", "x" * 31]),
            "calendars": st.lists(
                st.sampled_from(
                    ["*-*-* *:*:00", "*-*-* *:0,15,30,45:00", "Sun,Sat *-1,12-1,31 0,23:59:00"]
                ),
                min_size=1,
                max_size=2,
            ),
        }
    ),
    max_size=3,
    unique_by=lambda job: str(job["name"]),
)
TIMER = re.compile(
    "# Written by Gatling.\n\\[Unit\\]\n"
    rf"Description=Gatling: times of the job [a-z0-9-]+\.{JOB}\n\n\[Timer\]\n"
    r"(OnCalendar=[A-Za-z0-9*,: -]+\n){1,2}AccuracySec=1s\n\n"
    r"\[Install\]\nWantedBy=timers\.target\n",
    re.ASCII,
)
