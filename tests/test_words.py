"""Everything that a person reads is plain English: the faults listed here must not come back.

Each rule has a reason that the failure prints. Two levels: STRICT rules hold for text that users
read (messages, help, settings, docs), all others for docstrings and comments as well.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = ROOT / "src/gatling"
SHOWN_MODELS = ("project/settings.py", "project/processes.py")
"""Their docstrings are the text of docs/settings.md and of `gatling init`."""


@dataclass(frozen=True)
class Rule:
    """A word or construction that must not occur, and the reason."""

    name: str
    pattern: str
    reason: str
    strict: bool = False
    """Only in text that users read."""


RULES = (
    Rule("anew", r"(?i)\banew\b", "write `again`, or `restarts`"),
    Rule("mend", r"(?i)\bmend(?:s|ed|ing)?\b", "write `fix`"),
    Rule("look through", r"(?i)\blook(?:s|ed|ing)? through\b", "write `check`"),
    Rule("in the midst", r"(?i)\bin the midst\b", "write `while`, or `executing`"),
    Rule("in force", r"(?i)\bin force\b", "write `applied` or `effective`"),
    Rule("whoever", r"(?i)\bwho(?:so|m)?ever\b", "name the person: the user, the caller"),
    Rule("glue", r"(?i)\b(?:thus|meanwhile|by then)\b", "start a new sentence"),
    Rule("shall", r"(?i)\bshall\b", "write `should`, `must` or `will`"),
    Rule("he", r"(?i)\b(?:he|him|his|she|hers?)\b", "repeat the noun, or write `they`"),
    Rule("such a one", r"(?i)\bsuch (?:a |an )?one\b", "repeat the noun"),
    Rule(
        "double genitive",
        r"\bof (?:an? |the )?(?:Gatling|systemd|nginx|git|mix|Phoenix|Ecto|supervisord|Debian)'s"
        r"(?=[ ,;:]+(?:and|or|that|which|in|is|has|own|needs)\b|[.,;:)]|$)",
        "write `Gatling's unit` or `a systemd timer`",
    ),
    Rule("page of maintenance", r"(?i)\bpages? of maintenance\b", "write `maintenance page`"),
    Rule("kept release", r"(?i)\bkept releases?\b", "write `retained release`"),
    Rule("digested", r"(?i)\bdigested files?\b", "write `fingerprinted assets`"),
    Rule("by https", r"\bby https?\b", "write `over HTTPS`"),
    Rule(
        "by rolling", r"\b(?:goes?|went|deployed) by (?:rolling|hot)\b",
        "write `is deployed with a rolling restart`",
    ),
    Rule(
        "nothing fails", r"(?i)\b(?:takes|fails) nothing\b",
        "say what happens: `is only reported`", strict=True,
    ),
    Rule(
        "headless clause",
        r"(?:^|(?<=[.!:] ))(?:What|Whom?|Whose|Which)\b(?![^.?!]*\?)",
        "begin with a noun or an imperative: `The files that …`, `Return the …`; name the person",
    ),
    Rule(
        "headless clause", r"(?:^|(?<=[.!:] ))Where\b(?![^.?!]*\?)",
        "begin with a noun: `The directory of …`; a condition begins with `If`",
    ),
    Rule("told", r"(?i)\b(?:tells?|told|telling)\b", "a program prints, reports or sets"),
    Rule(
        "is ended", r"(?i)\b(?:is|are|was|were|be|been|being|cannot be) ended\b",
        "write `is stopped` or `is killed`", strict=True,
    ),
    Rule("gone", r"(?i)\b(?:is|are) gone\b", "write `is removed`", strict=True),
    Rule(
        "let in", r"(?i)\blet(?:s)? in\b|\bgo(?:es)? on by\b",
        "write `authorized`, `continues with`", strict=True,
    ),
    Rule("asked for", r"(?i)\bas asked for\b|\basked as\b", "write `requested`", strict=True),
    Rule("whether True", r"\bWhether\b[^|]*\|?$", "describe the effect of `true`", strict=True),
    Rule(
        "makes one", r"(?i)` makes one\b|\b(?:is|was|be) made (?:by|of)\b",
        "write `creates one`, `is created from`", strict=True,
    ),
    Rule("wish", r"(?i)\bwish(?:es|ed)?\b", "write `requested strategy`", strict=True),
    Rule("nobody more", r"(?i)\bnobody\b.*\bany more\b", "say what is true", strict=True),
)  # fmt: skip

ALLOWED = (
    ("shall", "Shall I install Hex"),  # a message of mix
)
"""Pairs of a rule and a text around which the rule does not hold."""


@dataclass(frozen=True)
class Text:
    """A piece of prose and its place."""

    file: Path
    line: int
    text: str
    shown: bool
    """Whether users read it."""


def _is_prose(text: str) -> bool:
    """Whether a string is text for a person: not SQL, a pattern, a path or a key."""
    return " " in text and not re.search(r"\\[bsdwW]|\(\?|SELECT |INSERT |UPDATE |DELETE ", text)


def python(file: Path) -> Iterator[Text]:
    """The docstrings, comments and strings of a Python file."""
    source = file.read_text()
    tree = ast.parse(source)
    name = str(file.relative_to(SOURCE))
    documented, inner = set(), set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for one in body if isinstance(body, list) else ():
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                documented.add(one.value)
        if isinstance(node, ast.JoinedStr):
            inner.update(node.values)
    commands = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(
            "command" in ast.unparse(d) or "group" in ast.unparse(d) for d in node.decorator_list
        )
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            text = node.value
        else:
            continue
        if node in documented:
            shown = node in commands or name in SHOWN_MODELS
            yield Text(file, node.lineno, " ".join(text.split()), shown)
        elif _is_prose(text):
            yield Text(file, node.lineno, " ".join(text.split()), shown=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(file, token.start[0], token.string.lstrip("# "), shown=False)


def comments(file: Path, mark: str) -> Iterator[Text]:
    """The comments of an Erlang or Elixir file, and Elixir's documentation on one line."""
    for number, line in enumerate(file.read_text().split("\n"), 1):
        if found := re.match(rf'\s*(?:{mark}+ |@(?:module)?doc "+)(.*)', line):
            yield Text(file, number, found[1], shown=False)


def page(file: Path) -> Iterator[Text]:
    """The paragraphs of a Markdown page, without blocks of code."""
    inside, start, lines = False, 0, list[str]()
    for number, line in enumerate([*file.read_text().split("\n"), ""], 1):
        if line.startswith("```"):
            inside = not inside
        if inside or not line.strip() or line.startswith(("|", "#", "-", "```")):
            if lines:
                yield Text(file, start, " ".join(lines), shown=True)
            lines = []
            if not inside and line.startswith(("|", "#", "-")):
                lines, start = [line], number
        else:
            start = start if lines else number
            lines.append(line)


@cache
def texts() -> list[Text]:
    """All text of the project that somebody reads."""
    found: list[Text] = []
    for file in sorted(SOURCE.rglob("*.py")):
        found += python(file)
    for suffix, mark in (("*.erl", "%"), ("*.ex", "#"), ("*.exs", "#")):
        for file in sorted(SOURCE.rglob(suffix)):
            found += comments(file, mark)
    for file in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))):
        found += page(file)
    return found


@cache
def _any(shown: bool) -> re.Pattern[str]:
    """All rules for such texts in one pattern: most texts break none."""
    each = (rule.pattern for rule in RULES if shown or not rule.strict)
    return re.compile("|".join(f"(?:{one.removeprefix('(?i)')})" for one in each), re.IGNORECASE)


def faults(text: Text) -> Iterator[str]:
    """The rules that a text breaks, with its place and the reason."""
    if not _any(text.shown).search(text.text):
        return
    for rule in RULES:
        if rule.strict and not text.shown:
            continue
        for match in re.finditer(rule.pattern, text.text):
            around = text.text[max(0, match.start() - 30) : match.end() + 40]
            if not any(rule.name == name and word in around for name, word in ALLOWED):
                place = f"{text.file.relative_to(ROOT)}:{text.line}"
                yield f"{place}: {rule.name} ({rule.reason}): …{around}…"


def test_what_people_read_is_plain_english() -> None:
    assert len(texts()) > 5000
    found = [fault for text in texts() for fault in faults(text)]
    assert not found, "\n".join(found)
