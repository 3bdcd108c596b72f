"""The forced command of a key: everything that comes over SSH passes here (sshd(8), command=).

The client's command line is in SSH_ORIGINAL_COMMAND. It never reaches a shell: a push or fetch
becomes git itself with a path of ours, everything else a command of ours in this process.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from gatling import names, process
from gatling.errors import Exit, InvalidInput, Misused, NotAllowed, NotFound
from gatling.platform.open import open_gatling
from gatling.ssh import policy, sessions
from gatling.ssh.policy import Request
from gatling.state import apps, audit, keys
from gatling.ui import failing
from gatling.ui.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import NoReturn

    from gatling.platform.open import Gatling
    from gatling.ssh.policy import Grant

MAX_BYTES = 64 * 1024
"""Of a command line."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""With what Python makes of bytes that are not UTF-8."""

# sshd_config's AcceptEnv limits the client's variables; only these are taken from it, or
# from the system: a pusher must not choose what git or mix do on this machine.
_KEPT = re.compile(
    r"(?:PATH|HOME|USER|LOGNAME|SHELL|TERM|COLUMNS|LANG|LC_[A-Z]+|TZ|TMPDIR|XDG_RUNTIME_DIR"
    r"|(?:https?|no|HTTPS?|NO)_(?:proxy|PROXY)|GATLING_(?:HOME|LISTEN|PORTS))\Z"
)
_GIT_PROTOCOL = re.compile(r"version=[0-9]\Z")
_PATH_START = re.compile(r"\A(?:/?~/|/)")
_BY_STDIN = "`gatling config set APP --stdin NAME` takes values of any length and text."
_WITH_TERMINAL = ("console", "run", "top")

_RIGHTS = {"admin": "has full access", "deployer": "can deploy", "reader": "can read"}
_GREETING = """\
Hello, {name}! This key {rights}. There is no shell here, but:

  ssh {address} help              lists the commands for this key
  ssh {address} apps              runs one of them
  gatling --host {address} apps   does the same where Gatling is installed
"""
_PUSHING = "  git push {address}:APP main     deploys an app\n"


def main(name: str) -> int:
    """Do what the holder of the key NAME asks for over SSH; the exit status."""
    typed = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    terminal = "SSH_TTY" in os.environ
    _clean_environment(name)

    def admitted() -> int:
        with contextlib.ExitStack() as session:
            with open_gatling() as gatling:
                grant = _grant(gatling, name)
                with _refusals(gatling, "too many sessions"):
                    session.enter_context(sessions.held(gatling.home, grant.name, grant.role))
                go_on = _admit(gatling, grant, typed, terminal=terminal)
            return go_on()  # with the state closed: it opens it again, or becomes git

    return failing.status_of(admitted)


def split(typed: str) -> list[str]:
    """The words of a command line; raises InvalidInput for what nobody types."""
    if len(os.fsencode(typed)) > MAX_BYTES:
        raise InvalidInput(f"The command has more than {MAX_BYTES // 1024} KiB.", hint=_BY_STDIN)
    if _CONTROL.search(typed):
        raise InvalidInput("The command has control characters, or is not UTF-8.", hint=_BY_STDIN)
    try:
        return shlex.split(typed)
    except ValueError:
        raise InvalidInput(
            "The command has a quote without its end.",
            hint="Your local shell removes one pair of quotes: ssh … \"run shop -- eval 'x()'\"",
        ) from None


def git_request(words: Sequence[str]) -> Request | None:
    """Parse the request of git on the other side; None when the command is not git's.

    Its path may be written as `shop`, `shop.git`, `/shop.git`, `~/shop`. Raises NotAllowed for what
    it may ask elsewhere but not here (git-upload-archive, options), InvalidInput for other paths.
    """
    program, *rest = words
    if program == "git" and rest:
        program, *rest = f"git-{rest[0]}", *rest[1:]
    if not program.startswith("git-") and program != "git":
        return None
    if program not in (policy.FETCH, policy.PUSH) or len(rest) != 1:
        raise NotAllowed("Only git push and git fetch are served here.")
    path = _PATH_START.sub("", rest[0]).removesuffix("/").removesuffix(".git")
    return Request(program, names.app_name(path))


def _admit(gatling: Gatling, grant: Grant, typed: str, *, terminal: bool) -> Callable[[], int]:
    """Return the permitted action; record and raise a refusal."""
    asked: Request | None = None
    words: Sequence[str] = typed.split()[:1]  # of what is no command line, only the first word
    try:
        words = split(typed)
        if not words:
            return functools.partial(_greet, grant)
        by_git = git_request(words)
        asked = by_git or policy.understand(words, policy.visitor(grant, _address()))
        if terminal and asked.command not in _WITH_TERMINAL:
            raise InvalidInput(
                "Only `gatling console`, `gatling run` and `gatling top` take a terminal.",
                hint="Leave out ssh's option -t.",
            )
        policy.check(grant, asked)
    except Misused:
        raise  # a slip of the pen, not worth a record
    except (InvalidInput, NotAllowed):
        app = asked.app if asked else None
        what = asked.command if asked else policy.for_audit(words)
        audit.record(gatling.db, gatling.actor, app, "refused", what)
        raise
    if by_git is not None:
        return functools.partial(_become_git, *_service(gatling, grant, by_git))
    return functools.partial(_run_command, grant, words)


def _grant(gatling: Gatling, name: str) -> Grant:
    try:
        key = keys.get(gatling.db, name)
    except NotFound:
        if keys.is_name(name):
            audit.record(gatling.db, name, None, "refused", "key is not known")
        raise NotAllowed("This key is not authorized on this server.") from None
    return policy.Grant(key.name, key.role, frozenset(key.apps))


@contextlib.contextmanager
def _refusals(gatling: Gatling, what: str) -> Iterator[None]:
    """Put a refusal on record, and raise it."""
    try:
        yield
    except NotAllowed:
        audit.record(gatling.db, gatling.actor, None, "refused", what)
        raise


def _greet(grant: Grant) -> int:
    rights = _RIGHTS[grant.role]
    if grant.role != "admin":
        every = keys.EVERY_APP in grant.apps
        rights += " all apps" if every else f" {', '.join(sorted(grant.apps))}"
    pushing = "" if grant.role == "reader" else _PUSHING
    text = (_GREETING + pushing).format(name=grant.name, rights=rights, address=_address())
    sys.stdout.write(text)
    return int(Exit.OK)


def _service(gatling: Gatling, grant: Grant, asked: Request) -> tuple[str, Path]:
    """Return git's service and its repository; a push to a new app first creates the app."""
    app = asked.app or ""
    if asked.command != policy.PUSH:
        apps.get(gatling.db, app)
    elif not apps.is_whole(gatling.db, app):
        policy.check(grant, Request("load", app))
        _make(gatling, app)
    return asked.command.removeprefix("git-"), gatling.home.app(app).repository


def _make(gatling: Gatling, app: str) -> None:
    from gatling.operations import apps as loading

    if loading.ensure(gatling, app):
        Progress().say(f"{app} is new here: created it")


def _become_git(service: str, repository: Path) -> NoReturn:
    """Replace this process by git, which talks to the git on the other side."""
    git = shutil.which("git")
    if git is None:
        raise process.missing("git")
    os.execve(git, ["git", service, str(repository)], dict(os.environ))  # noqa: S606


def _run_command(grant: Grant, words: Sequence[str]) -> int:
    from gatling.cli import run_command_line

    every = grant.role == "admin" or keys.EVERY_APP in grant.apps
    os.environ["GATLING_APPS"] = keys.EVERY_APP if every else ",".join(sorted(grant.apps))
    os.environ["GATLING_ROLE"] = grant.role
    return run_command_line(words, policy.visitor(grant, _address()))


def _address() -> str:
    """How this server is called in texts, as in the address for pushes."""
    from gatling.cli import targets

    return f"{targets.USER}@{os.uname().nodename}"


def _clean_environment(name: str) -> None:
    kept = {key: value for key, value in os.environ.items() if _KEPT.match(key)}
    if _GIT_PROTOCOL.match(protocol := os.environ.get("GIT_PROTOCOL", "")):
        kept["GIT_PROTOCOL"] = protocol
    os.environ.clear()
    os.environ.update(kept | {"GATLING_ACTOR": name})
