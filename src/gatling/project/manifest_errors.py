"""What is wrong with a gatling.toml: the line, the key, what was expected, the nearest known key.

Whatever stands in the file: what is told is one line of printable text, and is found quickly.
"""

from __future__ import annotations

import difflib
import json
import re
import time
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from gatling.errors import InvalidManifest
from gatling.project import headers
from gatling.project.settings import NAMED, choices, in_words, known

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "gatling.toml"

LISTS = {"hot.deny": ", ", "proxy.headers": f" {headers.SEPARATOR} "}
"""The texts that may be lists, with what then stands between two."""

SHOWN = 60
"""How much of a key is shown, and of some other text three times that."""
SECONDS = 0.2
"""For how long the line of an error is looked for; an honest file takes a hundredth of it."""

_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "object": "a table",
    "array": "an array",
    "date": "a date",
    "time": "a time",
    "datetime": "a date",
}


def explained(
    error: str, tree: dict[str, Any], text: str, convert: Callable[[dict[str, Any]], object]
) -> InvalidManifest:
    """What msgspec's error means; `convert` raises the error of a part of the file."""
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
    """What msgspec says and at which path. A key of the file may look as the end of it does."""
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
                return (
                    "a name has up to 31 of a-z, 0-9, _ and -, begins with a letter, and is not web"
                ), [section, name]
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
    near = difflib.get_close_matches(key[: 3 * SHOWN], candidates, n=1, cutoff=0.5)
    near = near or [k for k in keys if k.rpartition(".")[2] == path[-1]]
    return near[0] if near else ""


def _told(what: str, path: list[str], tree: dict[str, Any]) -> str:
    """What msgspec says, in TOML's words; with what it might be where there is a choice."""
    if path[0] == "processes" and len(path) == 2:
        what = what.replace("`object`", "a string or a table")
    key, value = ".".join(path), _value(tree, path)
    if key in LISTS and isinstance(value, list) and not is_texts(value):
        return "expected a string or an array of strings"
    what = in_words(what)
    for python, toml in _WORDS.items():
        what = what.replace(f"`{python}`", toml)
    choice = choices(key)
    if choice:
        return f"expected one of {', '.join(choice)}"
    return what.replace("Expected", "expected", 1).replace("Invalid", "invalid", 1)


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
