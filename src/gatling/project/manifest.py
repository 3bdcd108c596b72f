"""gatling.toml: what a project says of itself, read from the pushed source and validated.

It becomes settings as `gatling settings` knows them: dotted keys and texts. What was set on the
host wins over it.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from gatling.errors import InvalidManifest
from gatling.project import headers
from gatling.project.processes import missing
from gatling.project.settings import HOST_ONLY, NAMED, Settings, describe, flat, known

if TYPE_CHECKING:
    from pathlib import Path

NAME = "gatling.toml"
MAX_BYTES = 16384
"""An honest file has less; what a hostile one can make the parser do grows with the square."""
MAX_LINES = 500
"""How many lines are tried to find the one of an error; an honest file has fewer."""


def read(directory: Path) -> dict[str, str]:
    """The settings in the directory's gatling.toml; none when there is no such file.

    Raises InvalidManifest.
    """
    raw = own_file(directory / NAME, MAX_BYTES)
    return {} if raw is None else parse(raw)


def own_file(path: Path, limit: int) -> bytes | None:
    """A file of the pushed source, read up to one byte more than `limit`; None without one.

    Raises InvalidManifest for a link, which might lead to a file that is not the project's.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        raise InvalidManifest(f"{path.name} must be a file of its own, not a link.") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidManifest(f"{path.name} must be an ordinary file.")
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read(limit + 1)
    finally:
        os.close(fd)


def branch(raw: bytes) -> str:
    """The deploy branch that the text of a gatling.toml names, or nothing.

    Nothing, too, where the text is not valid: a deployment of it tells why.
    """
    try:
        return parse(raw).get("deploy.branch", "")
    except InvalidManifest:
        return ""


def parse(raw: bytes) -> dict[str, str]:
    """The settings in the text of a gatling.toml; raises InvalidManifest.

    The error names the line, the key, and what was expected or which known key is nearest.
    """
    if len(raw) > MAX_BYTES:
        raise InvalidManifest(f"{NAME} is larger than {MAX_BYTES >> 10} KB.")
    try:
        text = raw.decode()
        tree = tomllib.loads(text)
        for key in HOST_ONLY:
            _refuse_host_only(tree, key, text)
        settings = msgspec.convert(_in_full(tree), Settings)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InvalidManifest(f"{NAME}, line {line}: not UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidManifest(f"{NAME}: not TOML: {error}.") from None
    except RecursionError:
        raise InvalidManifest(f"{NAME}: nested too deeply.") from None
    except msgspec.ValidationError as error:
        raise _explained(str(error), tree, text) from None
    for key in missing(settings.processes, settings.schedule):
        path = key.split(".")
        raise InvalidManifest(f"{NAME}, line {_line(text, path[:2])}: {key} is missing.")
    values = describe(settings)
    return {key: _text(values[key]) for key in flat(_in_full(tree))}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in_full(tree: dict[str, Any]) -> dict[str, Any]:
    """The file as the settings have it.

    Lists of texts are separated by commas (or as _BETWEEN says), and `worker = "…"` among the
    processes is its command.
    """

    def value_of(section: str, name: str, value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return _BETWEEN.get(f"{section}.{name}", ", ").join(value)
        if section == "processes" and isinstance(value, str):
            return {"command": value}
        return value

    return {
        section: {name: value_of(section, name, value) for name, value in fields.items()}
        if isinstance(fields, dict)
        else fields
        for section, fields in tree.items()
    }


_BETWEEN = {"proxy.headers": f" {headers.SEPARATOR} "}


def _refuse_host_only(tree: dict[str, Any], key: str, text: str) -> None:
    section, _, name = key.partition(".")
    fields = tree.get(section)
    if isinstance(fields, dict) and name in fields:
        raise InvalidManifest(
            f"{NAME}, line {_line(text, [section, name])}: {key} is the host's to say.",
            hint=f"`gatling settings set APP {key}=…` there.",
        )


def _explained(error: str, tree: dict[str, Any], text: str) -> InvalidManifest:
    """msgspec's error with line and key, and the nearest known key for one that is not known."""
    what, _, at = error.partition(" - at ")
    path = re.findall(r"[^.`$\[\]]+", at)
    section = next((word for word in path if word in NAMED), None)
    if section and path[0] in (section, "key"):
        path, what = _named(section, tree, what)
    unknown = re.search(r"unknown field `(.*)`$", what, re.DOTALL)
    if unknown is None:
        said = _in_words(what, path, tree)
        return InvalidManifest(f"{NAME}, line {_line(text, path)}: {'.'.join(path)}: {said}.")
    path.append(unknown[1])
    key = ".".join(path)
    keys = [k.replace("NAME", path[1]) if len(path) == 3 else k for k in known()]
    candidates = keys if len(path) > 1 else sorted({k.partition(".")[0] for k in keys})
    if len(path) == 1 and not isinstance(tree.get(key), dict):
        # at the top only tables are expected: what is meant is most likely a key of one
        candidates += keys
    near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.5) or [
        k for k in keys if k.rpartition(".")[2] == path[-1]
    ]
    meant = f" Did you mean {near[0]}?" if near else ""
    return InvalidManifest(f"{NAME}, line {_line(text, path)}: {key} is not a known key.{meant}")


def _named(section: str, tree: dict[str, Any], what: str) -> tuple[list[str], str]:
    """The path and the error of the first table among those of the project's names that has one."""
    fields = tree.get(section)
    for name, value in fields.items() if isinstance(fields, dict) else ():
        try:
            msgspec.convert(_in_full({section: {name: value}}), Settings)
        except msgspec.ValidationError as error:
            said, _, at = str(error).partition(" - at ")
            if at.startswith("`key`"):
                return [section, name], (
                    "a name has up to 31 of a-z, 0-9, _ and -, begins with a letter, and is not web"
                )
            return [section, name, *re.findall(r"[^.`$\[\]]+", at)[1:]], said
    return [section], what


def _in_words(what: str, path: list[str], tree: dict[str, Any]) -> str:
    """What msgspec says, in TOML's words; with what it might be where there is a choice."""
    value: Any = tree
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if path[0] == "processes" and len(path) == 2:
        what = what.replace("`object`", "a string or a table")
    if isinstance(value, list):
        return "expected a string or an array of strings"
    for python, toml in _WORDS.items():
        what = what.replace(f"`{python}`", toml)
    from gatling.project import template  # noqa: PLC0415 (for an error; every push reads this file)

    choice = template.choices(".".join(path))
    if choice:
        return f"expected one of {', '.join(choice)}"
    return what[:1].lower() + what[1:]


_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "object": "a table",
    "array": "an array",
}


def _line(text: str, path: list[str]) -> int:
    """The line on which what is at `path` has come to its end.

    Found by the parser itself: it is the first line up to which the text has the path.
    """
    lines = text.splitlines()
    first = next((n for n, line in enumerate(lines, 1) if path and path[-1] in line), 1)
    for number in range(first, min(len(lines), first + MAX_LINES) + 1):
        try:
            tree: Any = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue  # in the midst of a text or list of several lines
        for name in path:
            tree = tree.get(name) if isinstance(tree, dict) else None
        if tree is not None:
            return number
    return len(lines)
