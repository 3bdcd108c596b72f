"""Colours in the lines of a push: for a pusher at a terminal, or who asks for them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from gatling.ssh import colours, push_options
from gatling.ui import progress

DECIDE = (
    "import os; from gatling.ssh import colours; colours.decide();"
    f" print(os.environ[{progress.FORCED!r}])"
)


def decided(stderr: int, **variables: str) -> bool:
    """What a hook decides below a git with this standard error."""
    hook = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {DECIDE!r}], stderr=-1)"
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", progress.FORCED)}
    done = subprocess.run(
        [sys.executable, "-c", hook], stdout=subprocess.PIPE, stderr=stderr, text=True, check=True,
        env=env | variables,
    )  # fmt: skip
    return done.stdout == "1\n"


def test_a_pusher_on_the_same_machine_has_a_terminal_or_not() -> None:
    reading, terminal = pty.openpty()
    try:
        assert decided(terminal, TERM="xterm-256color")
        assert not decided(terminal, TERM="xterm-256color", NO_COLOR="1")
        assert not decided(terminal, TERM="dumb")
        assert not decided(terminal)
    finally:
        os.close(reading)
        os.close(terminal)
    assert not decided(subprocess.DEVNULL, TERM="xterm-256color")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [([], False), (["color"], True), (["ci.skip", "color"], True), (["color", "no-color"], False)],
)
def test_a_pusher_may_say(
    monkeypatch: pytest.MonkeyPatch, options: list[str], wanted: bool
) -> None:
    monkeypatch.setattr(colours, "_shows_colours", lambda _: False)
    monkeypatch.setenv(progress.FORCED, "")
    monkeypatch.setenv("GIT_PUSH_OPTION_COUNT", str(len(options)))
    for number, option in enumerate(options):
        monkeypatch.setenv(f"GIT_PUSH_OPTION_{number}", option)
    assert list(push_options.given()) == options
    colours.decide()
    with open(os.devnull, "w") as stream:  # noqa: PTH123
        assert progress.takes_colour(stream) == wanted
