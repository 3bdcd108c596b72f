"""Errors of gatling.toml: the line, the key, the accepted values, the nearest known key.

Every error is one line of printable text and is found quickly, for any content of the file.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from gatling.errors import InvalidManifest
from gatling.project import expectations, headers
from gatling.project.expectations import SHOWN
from gatling.project.settings import NAMED, choices, in_words, known

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "gatling.toml"

LISTS = {"hot.deny": ", ", "proxy.headers": f" {headers.SEPARATOR} "}
"""Keys that accept a list, with the separator of the items."""

SECONDS = 0.2
"""Time limit for finding the line of an error. An ordinary file takes a hundredth of it."""


def explained(
    error: str, tree: dict[str, Any], text: str, convert: Callable[[dict[str, Any]], object]
) -> InvalidManifest:
    """The error for a message of msgspec. `convert` raises that of a part of the file."""
    what, path = _taken_apart(error, tree)
    section = next((word for word in path if word in NAMED), None)
    if section and path[0] in (section, "key"):
        what, path = _named(section, tree, what, convert)
    unknown = re.search(r"unknown field `(.*)`$", what, re.DOTALL)
    if unknown:
        path = [*path, unknown[1]]
        meant = _meant(path, tree)
        said = f"{_shown(path)} is not a known key." + (f" Did you mean {meant}?" if meant else "")
        return InvalidManifest(f"{NAME}, line {line(text, path)}: {said}")
    own = re.match(r"([a-z_]+): ", what)  # the model's own checks name their field
    if own:
        path, what = [*path, own[1]], what[own.end() :]
    said = shortened(_told(what, path, tree))
    return InvalidManifest(f"{NAME}, line {line(text, path)}: {_shown(path)}: {said}.")


def line(text: str, path: list[str]) -> int:
    """The line on which what is at `path` (or, if nothing is, around it) has come to its end.

    Found by the parser itself: it is the first line up to which the text has the path.
    """
    import tomllib

    path, lines, deadline = list(path), text.split("\n"), time.process_time() + SECONDS
    tree = tomllib.loads(text)
    while path and _value(tree, path) is None:
        path.pop()  # `worker = "…"` stands for a table
    first = next((n for n, line in enumerate(lines, 1) if path and path[-1] in line), 1)
    for number in range(first, len(lines) + 1):
        try:
            if _value(tomllib.loads("\n".join([*lines[:number], ""])), path) is not None:
                return number
        except ValueError:
            pass  # inside a text or list of several lines
        if time.process_time() > deadline:
            break
    return first


def line_of_digits(text: str) -> int:
    """The line of the longest number."""
    longest = max(re.finditer(r"\d[\d_]*", text), key=lambda found: len(found[0]))
    return text.count("\n", 0, longest.start()) + 1


def shortened(text: str) -> str:
    """Of a text that may have anything from the file in it, so much as a person reads."""
    return text if len(text) <= 3 * SHOWN else f"{text[: 3 * SHOWN]}…"


def is_texts(value: object) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _taken_apart(error: str, tree: dict[str, Any]) -> tuple[str, list[str]]:
    """Split msgspec's error into text and path.

    A key of the file may look like the end of an error.
    """
    found = re.fullmatch(r"(.*) - at (`[^`]*`(?: in `[^`]*`)?)", error, re.DOTALL)
    unknown = re.search(r"unknown field `(.*)`$", error, re.DOTALL)
    if found is None or (unknown and unknown[1] in tree):
        return error, []
    return found[1], re.findall(r"[\w-]+", found[2])


def _named(
    section: str, tree: dict[str, Any], what: str, convert: Callable[[dict[str, Any]], object]
) -> tuple[str, list[str]]:
    """The error and the path of the first table among those of the project's names that has one."""
    fields = tree.get(section)
    for name, value in fields.items() if isinstance(fields, dict) else ():
        try:
            convert({section: {name: value}})
        except msgspec.ValidationError as error:
            if " - at `key`" in str(error):
                return expectations.NAME, [section, name]
            said, path = _taken_apart(str(error), {})
            return said, [section, name, *path[1:]]
    return what, [section]


def _meant(path: list[str], tree: dict[str, Any]) -> str:
    """The nearest known key, or nothing."""
    key = ".".join(path)
    keys = [k.replace("NAME", path[1]) if len(path) == 3 else k for k in known()]
    candidates = keys if len(path) > 1 else sorted({k.partition(".")[0] for k in keys})
    if len(path) == 1 and not isinstance(tree.get(key), dict):
        # at the top only tables are expected: what is meant is most likely a key of one
        candidates += keys
    return expectations.nearest(key, candidates, 0.5)


def _told(what: str, path: list[str], tree: dict[str, Any]) -> str:
    """A message of msgspec in the words of expectations.py."""
    if path[0] == "processes" and len(path) == 2:
        what = what.replace("`object`", "a string or a table")
    key, value = ".".join(path), _value(tree, path)
    if key in LISTS and isinstance(value, list) and not is_texts(value):
        return "expected a string or an array of strings"
    return expectations.wanted(in_words(what), choices(key))


def _shown(path: list[str]) -> str:
    """A dotted key as it would be written, if it is not too long for that."""
    return ".".join(
        key if re.fullmatch(rf"[A-Za-z0-9_-]{{1,{SHOWN}}}", key) else _quoted(key) for key in path
    )


def _quoted(key: str) -> str:
    short = key if len(key) <= SHOWN else f"{key[:SHOWN]}…"
    return json.dumps(short, ensure_ascii=not short.isprintable())


def _value(tree: Any, path: list[str]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
