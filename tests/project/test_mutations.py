"""A gatling.toml in which something was changed: it is refused with one clear error, or is valid.

What is valid is said by the JSON Schema that editors are given; so the two agree.
"""

from __future__ import annotations

import difflib
import functools
import re
import time
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatling.errors import Exit, InvalidManifest
from gatling.project import manifest, template
from gatling.project.settings import HOST_ONLY, known
from tests.project.test_manifest import EVERY_KEY
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = EVERY_KEY.splitlines()
FULL = manifest.parse(EVERY_KEY.encode())
SECTIONS = [n for n, line in enumerate(LINES) if line.startswith("[")]
KEYS = [n for n, line in enumerate(LINES) if re.match(r"\w+ = [^\[]", line)]
"""The lines with a table, and those with a key and all of its value."""

OF_THE_MODEL = re.compile(
    r"proxy\.headers: |not a command line|\.cron: | is missing\.|is can be set only on the host"
    r"|a name has up to 31|too many digits"
)
"""What the schema does not know: checks of the model's own, and numbers that take long to read."""

VALUES = [
    "true", "1", "0", "-1", "2.5", "nan", "-nan", "inf", "-inf", "1e400", "9" * 20, "9" * 400,
    "9" * 5000, f"0x{'f' * 5000}", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[]", "[[1]]",
    '["auto"]', '["a", 1]', "{}", "{a = 1}", '""', "'x'", r'"\u0000"', r'"a\nb"', r'"\u202e"',
    '"é"', '"99"', '"50%"', '"/x"', "''''x'''", f'"{"x" * 5000}"', "[" * 900 + "]" * 900,
    "[" * 3000 + "]" * 3000, "x", "", '"', "1_0", "01", "1.", "True", "'a' 'b'",
]  # fmt: skip
TEXTS = st.text(max_size=8) | st.sampled_from(
    ["\0", "\u202e", "\x1b[2J", "a\nb", "`", "x` - at `$.hot"]
)
USUAL = settings(max_examples=scaled(50, 200))


@functools.cache
def models() -> dict[str, Any]:
    """The schema's models; it takes a while to make, which each process that collects would do."""
    found: dict[str, Any] = template.schema()["$defs"]
    return found


def read(raw: bytes) -> dict[str, str] | str:
    """What a file says, or why it is refused: one line that a person can read, and soon."""
    begun, what = time.process_time(), ""
    try:
        return manifest.parse(raw)
    except InvalidManifest as refusal:
        what, hint, status = refusal.what, refusal.hint, refusal.exit_status
    finally:
        assert time.process_time() - begun < 5
    assert (bool(hint), status) == (True, Exit.INVALID)
    assert re.match(r"gatling\.toml(, line \d+)?: \S|gatling\.toml is larger than 16 KB", what)
    assert what.endswith((".", "?"))
    assert what.isprintable()
    assert len(what) < 400
    number = re.search(r"line (\d+)", what)
    assert not number or 1 <= int(number[1]) <= raw.count(b"\n") + 1
    return what


def checked(raw: bytes) -> dict[str, str] | str:
    """The same; what is taken must be valid, and what is valid must be taken."""
    said = read(raw)
    try:
        tree = tomllib.loads(raw.decode())
    except (ValueError, RecursionError):
        assert isinstance(said, str)
        return said
    if isinstance(said, dict):
        assert is_valid(tree, models()["Settings"]), raw
    elif not OF_THE_MODEL.search(said):
        assert not is_valid(tree, models()["Settings"]), (said, raw)
    return said


def is_valid(value: Any, model: dict[str, Any]) -> bool:
    """Whether a value is as the schema says: so much of JSON Schema as ours has."""
    if "$ref" in model:
        return is_valid(value, models()[model["$ref"].rpartition("/")[2]])
    if "anyOf" in model:
        return any(is_valid(value, one) for one in model["anyOf"])
    if "enum" in model:
        return value in model["enum"]
    return KINDS[model["type"]](value, model)


def is_number(value: Any, model: dict[str, Any]) -> bool:
    kinds = (int,) if model["type"] == "integer" else (int, float)
    is_one = isinstance(value, kinds) and not isinstance(value, bool)
    return is_one and bool(model["minimum"] <= value <= model["maximum"])


def is_text(value: Any, model: dict[str, Any]) -> bool:
    pattern = model.get("pattern", "").replace("$", r"\Z")
    is_one = isinstance(value, str) and re.search(pattern, value) is not None
    return is_one and len(value) <= model.get("maxLength", len(value))


def is_table(value: Any, model: dict[str, Any]) -> bool:
    if not isinstance(value, dict) or len(value) > model.get("maxProperties", len(value)):
        return False
    fields, others = model.get("properties", {}), model.get("additionalProperties") or {}
    return {*model.get("required", ())} <= value.keys() and all(
        is_valid(one, fields[name])
        if name in fields
        else bool(others) and is_text(name, model["propertyNames"]) and is_valid(one, others)
        for name, one in value.items()
    )


KINDS: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "boolean": lambda value, _: isinstance(value, bool),
    "integer": is_number,
    "number": is_number,
    "string": is_text,
    "array": lambda value, model: (
        isinstance(value, list) and all(is_valid(one, model["items"]) for one in value)
    ),
    "object": is_table,
}


def key_at(number: int) -> str:
    """The dotted key of a line with one."""
    section = next(LINES[n] for n in reversed(SECTIONS) if n < number)
    return f"{section.strip('[]')}.{LINES[number].partition(' ')[0]}"


def with_line(number: int, text: str) -> bytes:
    return "\n".join([*LINES[:number], text, *LINES[number + 1 :], ""]).encode()


def test_the_whole_file_is_valid() -> None:
    assert checked(EVERY_KEY.encode()) == FULL
    assert len(KEYS) > 30


@pytest.mark.parametrize("value", VALUES)
def test_another_value(value: str) -> None:
    """For each key: the error has its line and its key."""
    for number in KEYS:
        key = key_at(number)
        said = checked(with_line(number, f"{LINES[number].partition(' ')[0]} = {value}"))
        if isinstance(said, str) and "not TOML" not in said and "nested too" not in said:
            place = f"gatling.toml, line {number + 1}: "
            assert said.startswith((f"{place}{key}", f"{place}a number with")), said
            assert re.search(r"expected |out of range|too many|not a |bad |missing", said), said


@USUAL
@given(st.sampled_from(KEYS), st.data())
def test_a_typo_in_a_key(number: int, data: st.DataObject) -> None:
    key = key_at(number)
    name = key.rpartition(".")[2]
    at = data.draw(st.integers(0, len(name) - 1))
    wrong = data.draw(
        st.sampled_from([
            name[:at] + name[at + 1 :],
            name[:at] + name[at] + name[at:],
            name[:at] + name[at + 1 : at + 2] + name[at] + name[at + 2 :],
            name[:at] + "x" + name[at + 1 :],
            name.upper(),
            name.replace("_", "-"),
        ])
    )  # fmt: skip
    known_there = [k.rpartition(".")[2] for k in known()]
    assume(wrong not in known_there)
    assume(re.fullmatch(r"[\w-]+", wrong))
    said = checked(with_line(number, LINES[number].replace(name, wrong, 1)))
    if key.startswith("processes.mailer"):
        return
    assert isinstance(said, str)
    assert said.startswith(
        f"gatling.toml, line {number + 1}: {key.removesuffix(name)}{wrong} is not"
    )
    if len(name) > 4 and wrong.islower():
        meant = said.rpartition("Did you mean ")[2].removesuffix("?")
        written = f"{key.removesuffix(name)}{wrong}"
        # `http` may be a typo of https and of http3
        assert meant == key or alike(written, meant) >= alike(written, key)


def alike(written: str, meant: str) -> float:
    assert meant in known()
    return difflib.SequenceMatcher(None, meant, written).ratio()


@USUAL
@given(st.sampled_from(SECTIONS), st.data())
def test_a_typo_in_a_table(number: int, data: st.DataObject) -> None:
    name = re.findall(r"\w+", LINES[number])[0]
    at = data.draw(st.integers(0, len(name) - 2))
    wrong = data.draw(
        st.sampled_from(
            [name[:at] + name[at + 1 :], name[:at] + name[at + 1] + name[at] + name[at + 2 :]]
        )
    )
    assume(wrong not in (name, *FULL))
    said = checked(with_line(number, LINES[number].replace(name, wrong)))
    assert isinstance(said, str)
    assert (
        said == f"gatling.toml, line {number + 1}: {wrong} is not a known key. Did you mean {name}?"
    )


@USUAL
@given(
    st.sampled_from([*KEYS, *SECTIONS]), TEXTS, st.sampled_from(["{} = 1", "[{}]", "health.{} = 1"])
)
def test_a_key_that_nobody_knows(number: int, key: str, form: str) -> None:
    quoted = "".join(f"\\u{ord(c):04x}" if ord(c) < 65536 else c for c in key)
    assume(key.encode("utf-8", "replace").decode() == key)
    said = checked(with_line(number, form.format(f'"{quoted}"') + "\n" + LINES[number]))
    assert isinstance(said, (str, dict))
    if key not in {k.rpartition(".")[2] for k in known()}:
        assert isinstance(said, str) or LINES[number - 1].startswith("[processes")


@USUAL
@given(st.data())
def test_damaged_text(data: st.DataObject) -> None:
    words = sorted({*re.findall(r"[\w./]+", EVERY_KEY), "", "-1", "[]", "{}", "[[x]]", '"""', "é"})
    pieces = re.split(r"(\W)", EVERY_KEY)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(pieces) - 1))
        pieces[at] = data.draw(st.sampled_from(words) | st.text(max_size=4))
    checked("".join(pieces).encode("utf-8", "surrogatepass"))


@USUAL
@given(st.data())
def test_damaged_bytes(data: st.DataObject) -> None:
    raw = bytearray(EVERY_KEY.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        until = data.draw(st.integers(at, min(len(raw), at + 40)) | st.just(len(raw)))
        raw[at:until] = data.draw(
            st.binary(max_size=6)
            | st.sampled_from([b"\0", b"\xff", b"\xed\xa0\x80", b"\r", b"\x1b"])
        )
    checked(bytes(raw))


@USUAL
@given(st.lists(st.sampled_from([*SECTIONS, *KEYS]), min_size=1, max_size=3), st.data())
def test_lines_said_twice_or_left_out(numbers: list[int], data: st.DataObject) -> None:
    lines = list(LINES)
    for number in numbers:
        at = data.draw(st.integers(0, len(lines)))
        if data.draw(st.booleans()):
            lines.insert(at, LINES[number])
        elif at < len(lines):
            del lines[at]
    checked("\n".join(lines).encode())


@pytest.mark.parametrize("section", sorted({key.partition(".")[0] for key in known()}))
def test_tables_of_another_kind(section: str) -> None:
    for text in (
        f"[[{section}]]",
        f"{section} = []",
        f"{section} = 1",
        f"[[{section}]]\n[[{section}]]",
    ):
        said = checked(f"{text}\n".encode())
        assert isinstance(said, str)
        assert re.match(rf"gatling\.toml, line \d: {section}: expected a table, got an? ", said)
    for text in (f"[{section}]\n[{section}]", f"{section} = 1\n{section} = 1"):
        assert "not TOML" in str(checked(f"{text}\n".encode()))
    assert checked(f"[{section}]\n".encode()) == checked(f"{section} = {{}}\n".encode()) == {}


def test_the_same_said_otherwise() -> None:
    tree = tomllib.loads(EVERY_KEY)
    leaves = [
        (section, name, value)
        for section, fields in tree.items()
        for name, value in fields.items()
        if not isinstance(value, dict)
    ]
    usual = {key: text for key, text in FULL.items() if key.count(".") == 1}
    for form in ("{}.{} = {}", '"{}".{} = {}', "{} . '{}' = {}"):
        text = "\n".join(
            form.format(s, n, template.written(v)) for s, n, v in leaves if s != "processes"
        )
        assert checked(text.encode()) == usual
    assert checked(EVERY_KEY.replace("\n", "\r\n").encode()) == FULL
    assert checked(EVERY_KEY.replace("\n", "  # said\n").replace("[  # said", "[").encode()) == FULL


@pytest.mark.parametrize("raw", [b"", b"\n" * 16384, b"#" * 16384, b"  \t\r\n", b"# \xc3\xa9"])
def test_a_file_that_says_nothing(raw: bytes) -> None:
    assert checked(raw) == {}


DEEP = ["a." * 5000 + "a = 1", "[" + "a." * 5000 + "a]", "a = " + "[" * 16000,
        "health = " + "{a = " * 2000, "[health]\npath" + ".path" * 3000 + " = 1",
        "[[a]]\n" * 2000, "[a.b]\n[a]\n" * 900,
        "\n".join(f"[a{n}]" for n in range(1700)), "[health]\n" + 'path = """' + "a\n" * 8000,
        "[health]\n" + "path.a = 1\n" * 1400, "x=1\n" * 4000, "\ufeff" + EVERY_KEY,
        "\ud83d"]  # fmt: skip


@pytest.mark.parametrize("text", DEEP, ids=range(len(DEEP)))
def test_deep_and_long(text: str) -> None:
    assert isinstance(
        checked(text.encode("utf-16" if text == "\ud83d" else "utf-8", "surrogatepass")), str
    )


def test_what_only_the_host_may_say() -> None:
    for key in HOST_ONLY:
        section, _, name = key.partition(".")
        assert "can be set only on the host" in str(
            checked(f"[{section}]\n{name} = 'x'\n".encode())
        )


def test_a_part_of_a_list_is_what_the_text_may_be() -> None:
    assert isinstance(checked(b'[hot]\ndeny = ["shop", "Shop.Cart"]\n'), dict)
    assert isinstance(checked(b'[hot]\ndeny = ["shop", "Shop{"]\n'), str)
