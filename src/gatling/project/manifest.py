"""gatling.toml: a project's own settings, read from the pushed source and validated.

It becomes settings as `gatling settings` knows them: dotted keys and texts. Values that were set on
the host override it.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any

import msgspec

from gatling import decoding
from gatling.errors import InvalidManifest
from gatling.project import durations, manifest_errors
from gatling.project.own_files import own_file
from gatling.project.processes import missing
from gatling.project.settings import HOST_ONLY, Settings, describe, flat

if TYPE_CHECKING:
    from pathlib import Path

NAME = manifest_errors.NAME
MAX_BYTES = 16384
"""An honest file has less; what a hostile one can make the parser do grows with the square."""
_DEEP = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){20}""")
"""A key of so many parts, each of which the parser compares with all others; none has four."""


def read(directory: Path) -> dict[str, str]:
    """The settings in the directory's gatling.toml; none when there is no such file.

    Raises InvalidManifest.
    """
    raw = own_file(directory / NAME, MAX_BYTES)
    return {} if raw is None else parse(raw)


def branch(raw: bytes) -> str:
    """The deploy branch that the text of a gatling.toml names, or nothing.

    Nothing, too, where the text is not valid: a deployment of it reports the error.
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
    text = _decoded(raw)
    tree = _tree(text)
    for key in HOST_ONLY:
        section, _, name = key.partition(".")
        fields = tree.get(section)
        if isinstance(fields, dict) and name in fields:
            raise InvalidManifest(
                f"{NAME}, line {manifest_errors.line(text, [section, name])}: {key} can be set"
                " only on the host.",
                hint=f"`gatling settings set APP {key}=…` on the host.",
            )
    try:
        settings = _settings(tree)
    except msgspec.ValidationError as error:
        raise manifest_errors.explained(str(error), tree, text, _settings) from None
    for key in missing(settings.processes, settings.schedule):
        raise InvalidManifest(
            f"{NAME}, line {manifest_errors.line(text, key.split('.'))}: {key} is missing."
        )
    values = describe(settings)
    return {key: _text(values[key]) for key in flat(_in_full(tree))}


def _decoded(raw: bytes) -> str:
    if raw.startswith(codecs.BOM_UTF8):
        raise InvalidManifest(
            f"{NAME}, line 1: begins with a byte order mark, which TOML does not have.",
            hint="Save it as UTF-8 without BOM.",
        )
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InvalidManifest(f"{NAME}, line {line}: not UTF-8.") from None


def _tree(text: str) -> dict[str, Any]:
    import tomllib

    try:
        return toml(text)
    except TooDeep as error:
        raise InvalidManifest(f"{NAME}, line {error.line}: nested too deeply.") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidManifest(
            f"{NAME}: not TOML: {manifest_errors.shortened(str(error))}."
        ) from None
    except RecursionError:
        raise InvalidManifest(f"{NAME}: nested too deeply.") from None
    except ValueError:  # of int(): such a number takes long to read
        line = manifest_errors.line_of_digits(text)
        raise InvalidManifest(f"{NAME}, line {line}: a number with too many digits.") from None


class TooDeep(ValueError):
    """A key of a TOML text has too many parts."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line}: nested too deeply")
        self.line = line


def toml(text: str) -> dict[str, Any]:
    """The content of a pushed TOML file, read in a short time and little memory.

    Raises ValueError for other texts and for what the parser would need long for; RecursionError.
    """
    import tomllib  # many projects have no such file

    if len(text) > MAX_BYTES:
        raise ValueError("too large")
    deep = _DEEP.search(text)
    if deep:
        raise TooDeep(text.count("\n", 0, deep.start()) + 1)
    return tomllib.loads(text)


def _settings(tree: dict[str, Any]) -> Settings:
    """Raises msgspec.ValidationError."""
    return decoding.convert(_in_full(tree), Settings)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in_full(tree: dict[str, Any]) -> dict[str, Any]:
    """The file as the settings have it.

    Lists of texts where there may be some are one text, and `worker = "…"` among the processes is
    its command.
    """

    def value_of(section: str, name: str, value: Any) -> Any:
        between = manifest_errors.LISTS.get(f"{section}.{name}")
        if between and manifest_errors.is_texts(value):
            return between.join(value)
        if section == "processes" and isinstance(value, str):
            return {"command": value}
        return durations.seconds(f"{section}.{name}", value)

    return {
        section: {name: value_of(section, name, value) for name, value in fields.items()}
        if isinstance(fields, dict)
        else fields
        for section, fields in tree.items()
    }
