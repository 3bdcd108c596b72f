"""The shapes that a request's arguments must have; whatever else comes is refused."""

import re
from pathlib import Path
from typing import Any

from gatling import names
from gatling.platform.limits import Limits

MAX_WORDS = 4096
MAX_SLOTS = 2048
"""More than an app can have."""
MAX_PORTS = 16
"""More than an app has."""


class Refused(Exception):
    """A request that is not one of ours; nothing was done."""


class UnknownVerb(Refused):
    """A request for something that the helper does not do."""


def text(request: dict[str, Any], key: str) -> str:
    """A short text."""
    value = request.get(key)
    if not isinstance(value, str) or len(value) > 255 or "\0" in value:
        raise Refused(f"{key} is not a short text")
    return value


def number(request: dict[str, Any], key: str, least: float, most: float) -> float:
    """A finite number between two others, these included."""
    value = request.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise Refused(f"{key} is not a number from {least} to {most}")
    return value


def cursor(request: dict[str, Any]) -> str:
    """A place in the journal, as journalctl prints it: systemd.journal-fields(7), __CURSOR."""
    value = text(request, "after")
    if not re.fullmatch(r"[a-z]=[0-9a-f]+(;[a-z]=[0-9a-f]+)*", value):
        raise Refused("after is not a place in the journal")
    return value


def slot(request: dict[str, Any]) -> int | str:
    """1 or 2, or a process's, such as `worker.1`."""
    return _slot(request.get("slot"))


def slots(request: dict[str, Any]) -> list[int | str]:
    """Several of them."""
    value = request.get("slots")
    if not isinstance(value, list) or not 0 < len(value) <= MAX_SLOTS:
        raise Refused("slots is not a list of slots")
    return [_slot(item) for item in value]


def process_slot(request: dict[str, Any]) -> str:
    """The slot of a process."""
    value = slot(request)
    if not isinstance(value, str):
        raise Refused("slot is not a process and a number")
    return value


def _slot(value: object) -> int | str:
    if type(value) is int and value in (1, 2):
        return value
    if isinstance(value, str) and names.is_process_slot(value):
        return value
    raise Refused("slot is not 1 or 2, or a process and a number")


def limits(request: dict[str, Any]) -> Limits:
    """Return the limits of a program, as systemd writes them."""
    given = request.get("limits", {})
    if not isinstance(given, dict) or given.keys() - {"memory", "tasks", "cpu"}:
        raise Refused("limits")
    memory, tasks, cpu = given.get("memory", ""), given.get("tasks", 0), given.get("cpu", "")
    amount = r"([1-9][0-9]{0,11}[KMGT]?|[1-9][0-9]?%)?"
    if not isinstance(memory, str) or not re.fullmatch(amount, memory):
        raise Refused("limits: memory")
    if type(tasks) is not int or not 0 <= tasks <= 4_000_000:
        raise Refused("limits: tasks")
    if not isinstance(cpu, str) or not re.fullmatch(r"([1-9][0-9]{0,5}%)?", cpu):
        raise Refused("limits: cpu")
    return Limits(memory, tasks, cpu)


def port_list(request: dict[str, Any]) -> tuple[int, ...] | None:
    """The ports of an app that its own instances listen on; None when they are not said."""
    return None if request.get("ports") is None else _ports(request["ports"])


def owned_ports(request: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The ports of every app, by its name; no port has two owners."""
    given = request.get("apps")
    if not isinstance(given, dict):
        raise Refused("apps does not map names to ports")
    found = {names.app_name(str(name)): _ports(value) for name, value in given.items()}
    every = [port for each in found.values() for port in each]
    if len(every) != len(set(every)):
        raise Refused("a port that two apps have")
    return found


def _ports(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_PORTS:
        raise Refused("ports is not a short list")
    if not all(type(port) is int and 1024 <= port <= 65535 for port in value):
        raise Refused("a port is a number from 1024 to 65535")
    return tuple(value)


def program(request: dict[str, Any], directory: Path) -> dict[str, Any]:
    """A program: argv, env, cwd (within the app's directory), niceness.

    Any user but root may say them.
    """
    argv, env, cwd = request.get("argv"), request.get("env"), request.get("cwd")
    words = argv if isinstance(argv, list) else []
    if not 0 < len(words) <= MAX_WORDS or not all(_passable(word) for word in words):
        raise Refused("argv is not a list of texts")
    if not isinstance(env, dict) or not all(
        _passable(k) and k and "=" not in k and _passable(v) for k, v in env.items()
    ):
        raise Refused("env does not map names to texts")
    if not isinstance(cwd, str) or ".." in Path(cwd).parts or "\0" in cwd:
        raise Refused("cwd is not a path")
    if not Path(cwd).is_relative_to(directory):
        raise Refused("cwd is not within the app's directory")
    found: dict[str, Any] = {"argv": words, "env": env, "cwd": cwd}
    if "nice" in request:
        found["nice"] = int(number(request, "nice", 0, 19))
    return found


def _passable(value: object) -> bool:
    """Whether a value can be a word of a command line or an environment."""
    return isinstance(value, str) and "\0" not in value
