"""Versions of toolchains, the files that ask for them, and the choice among toolchains."""

from __future__ import annotations

import contextlib
import time
import tomllib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatling.errors import InvalidInput
from gatling.project import toolchain_files
from gatling.project.toolchains import (
    Asked,
    Toolchain,
    Version,
    choose,
    name,
    parse,
    requirement,
    version,
)


def of(text: str) -> Version:
    found = version(text)
    assert found is not None
    return found


def chain(elixir: str, otp: str) -> Toolchain:
    return Toolchain(name(of(elixir), of(otp)), of(elixir), of(otp))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.18", "1.18"), ("v1.18.4", "1.18.4"), ("1.18/27", "1.18/27"),
        ("1.18.4-otp-27", "1.18.4/27"), ("1.18.4-otp-27.3.4.2", "1.18.4/27.3.4.2"),
        ("1.20.0-rc.1/29", "1.20.0-rc.1/29"), ("/27", "/27"), ("1.19-dev", "1.19-dev"),
        ("1", "1"),
    ],
)  # fmt: skip
def test_one_parser_reads_all_forms(text: str, said: str) -> None:
    assert str(parse(text)) == said
    assert parse(said) == parse(text)


@pytest.mark.parametrize(
    "text", ["", "/", "latest", "1.18/", "1.18-otp-", "ref:main", "1..2", "../1.18", "1.18/27/3",
             "1.18\n", "\uff11.18", "9" * 40]
)  # fmt: skip
def test_anything_else_is_refused_with_examples(text: str) -> None:
    if text == "1.18\n":
        assert str(parse(text)) == "1.18"
        return
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    assert "1.18.4-otp-27" in refused.value.hint


@given(st.text(max_size=30))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        parse(text)
    requirement(text)


def test_a_prefix_stands_for_its_releases_but_for_no_pre_release() -> None:
    assert parse("1.18/27").fits(of("1.18.4"), of("27.3.4"))
    assert not parse("1.18").fits(of("1.180.0"), of("27"))
    assert not parse("1.18").fits(of("1.18.0-rc.0"), of("27"))
    assert parse("1.18.0-rc.0").fits(of("1.18.0-rc.0"), of("27"))
    newest = sorted(map(of, ("1.18.0-rc.0", "1.9.9", "1.18.0", "1.18.0-rc.10", "1.18.0-rc.2")),
                    key=lambda v: v.order)  # fmt: skip
    assert [str(v) for v in newest] == [
        "1.9.9", "1.18.0-rc.0", "1.18.0-rc.2", "1.18.0-rc.10", "1.18.0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "allowed", "refused"),
    [
        ("~> 1.17", "1.17.0 1.18.4 1.99", "1.16.9 2.0.0 1.17.0-rc.0"),
        ("~> 1.17.2", "1.17.2 1.17.9", "1.17.1 1.18.0"),
        (">= 1.15.0 and < 1.17.0", "1.15.0 1.16.3", "1.14.9 1.17.0"),
        ("~> 1.14.0 or ~> 1.16", "1.14.5 1.18.0", "1.15.1"),
        ("1.18.4", "1.18.4", "1.18.3"),
        ("!= 1.18.3", "1.18.4", "1.18.3"),
        ("> 1.17.0", "1.17.1", "1.17.0"),
        ("<= 1.17.0", "1.17.0", "1.17.1"),
    ],
)
def test_requirements_hold_as_they_do_for_mix(text: str, allowed: str, refused: str) -> None:
    needed = requirement(text)
    assert needed is not None
    assert all(needed.allows(of(each)) for each in allowed.split())
    assert not any(needed.allows(of(each)) for each in refused.split())


def test_a_requirement_that_is_not_understood_decides_nothing() -> None:
    assert requirement("whatever 1.17") is None
    assert requirement("~> " + "9" * 5000) is None


BASE = chain("1.14.0", "25.2.3")
INSTALLED = [chain("1.17.3", "26.2.5"), chain("1.18.4", "27.3.4"), chain("1.18.4", "28.1")]


@pytest.mark.parametrize(
    ("elixir", "otp", "needed", "chosen"),
    [
        ("", "", "", "1.14.0-otp-25.2.3"),
        ("", "", "~> 1.14", "1.14.0-otp-25.2.3"),
        ("", "", "~> 1.17", "1.18.4-otp-28.1"),
        ("", "", "~> 1.17.0", "1.17.3-otp-26.2.5"),
        ("", "", "~> 1.19", ""),
        ("1.18", "27", "~> 1.17", "1.18.4-otp-27.3.4"),
        ("1.18.4", "", "", "1.18.4-otp-28.1"),
        # another patch level of the same version does
        ("1.18.1", "27.0", "", "1.18.4-otp-27.3.4"),
        ("1.14.5", "", "", "1.14.0-otp-25.2.3"),
        # older than the host's own: that one is used, as ever
        ("1.11", "23", "", "1.14.0-otp-25.2.3"),
        # between two: the nearest newer one
        ("1.16", "", "", "1.17.3-otp-26.2.5"),
        ("", "27", "", "1.18.4-otp-27.3.4"),
        ("", "26", "~> 1.18", "1.18.4-otp-27.3.4"),
        ("", "25", "~> 1.17", "1.17.3-otp-26.2.5"),
        ("1.19", "", "", ""),
        ("1.14", "29", "", ""),
    ],
)
def test_the_choice(elixir: str, otp: str, needed: str, chosen: str) -> None:
    asked = Asked(
        version(elixir), ".tool-versions", version(otp), ".tool-versions", requirement(needed)
    )
    found = choose(asked, BASE, INSTALLED)
    assert (found.name if found else "") == chosen


def test_it_says_what_to_install() -> None:
    def said(elixir: str, otp: str, needed: str) -> tuple[str, str]:
        asked = Asked(version(elixir), "mise.toml", version(otp), "mise.toml", requirement(needed))
        return asked.to_install, str(asked)

    assert said("", "", "~> 1.17") == ("1.17", "Elixir ~> 1.17 (mix.exs)")
    assert said("", "", ">= 1.17.2") == ("1.17", "Elixir >= 1.17.2 (mix.exs)")
    assert said("1.18.4", "27", "~> 1.1") == (
        "1.18.4/27", "Elixir 1.18.4 (mise.toml) and OTP 27 (mise.toml)"
    )  # fmt: skip
    assert said("", "27", "~> 1.17") == ("/27", "OTP 27 (mise.toml)")
    assert said("", "27", "")[0] == "/27"
    # an Elixir that the newest one for this OTP would not do for
    assert said("", "26", "~> 1.14.0")[0] == "1.14/26"
    assert said("", "26", ">= 1.14.2 and < 1.16.0")[0] == "1.14/26"
    assert said("", "26", "< 1.16.0")[0] == ""
    assert said("", "26", "!= 1.16.0")[0] == "/26"
    # only what the requirement allows
    assert said("", "", "< 1.15.0")[0] == ""
    assert said("", "", "< 1.15.0 or ~> 1.17")[0] == "1.17"
    assert said("", "", "!= 1.16.0 and >= 1.15.0")[0] == "1.15"
    assert said("", "", "> 1.15.0 and <= 1.17.1")[0] == "1.17.1"
    assert said("", "", "1.17.2")[0] == "1.17.2"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".tool-versions", "# x\nnodejs 20\nelixir 1.18.4-otp-27 # why\nerlang 27.3\n"),
        ("mise.toml", '[env]\nelixir="9"\n[tools]\nelixir = "1.18.4-otp-27"\nerlang = "27.3"\n'),
        (".config/mise.toml", '[tools]\nelixir = {version = "v1.18.4"}\nerlang = ["27.3", "1"]\n'),
        ("elixir_buildpack.config", "elixir_version=v1.18.4\nerlang_version='27.3'\n"),
    ],
)  # fmt: skip
def test_files_that_ask_for_versions(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    asked = toolchain_files.read(tmp_path)
    assert (asked.elixir, asked.otp) == (of("1.18.4"), of("27.3"))
    assert asked.elixir_file == asked.otp_file == file


def test_the_first_file_that_names_a_version_counts(tmp_path: Path) -> None:
    (tmp_path / ".tool-versions").write_text("elixir latest\nerlang ref:main\nelixir\n")
    (tmp_path / "mise.toml").write_text('[tools]\nelixir = "1.18"\n')
    (tmp_path / "elixir_buildpack.config").write_text("elixir_version=1.1\nerlang_version=26\n")
    asked = toolchain_files.read(tmp_path)
    assert (str(asked.elixir), asked.elixir_file) == ("1.18", "mise.toml")
    assert (str(asked.otp), asked.otp_file) == ("26", "elixir_buildpack.config")


def test_mix_exs_is_read_and_not_run(tmp_path: Path) -> None:
    mix = tmp_path / "mix.exs"
    mix.write_text('def project do\n [app: :shop, # elixir: "~> 1.1"\n  elixir: "~> 1.17",\n')
    asked = toolchain_files.read(tmp_path)
    assert asked.requirement is not None
    assert asked.requirement.text == "~> 1.17"
    mix.write_text('version = "~> 1.17"\n[elixir: version]\n')
    assert not toolchain_files.read(tmp_path).anything


def test_hostile_files_ask_for_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("elixir 1.18\n")
    project = tmp_path / "project"
    project.mkdir()
    (project / ".tool-versions").symlink_to(outside)
    (project / ".config").symlink_to(tmp_path)
    (tmp_path / "mise.toml").write_text('[tools]\nelixir = "1.18"\n')
    (project / "mise.toml").write_text("[" * 5000)
    (project / ".mise.toml").write_bytes(b"\xff\xfe" * 100)
    (project / "mix.exs").write_text('elixir: "' + "9" * 100_000 + '"')
    (project / "elixir_buildpack.config").mkdir()
    assert not toolchain_files.read(project).anything


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("mise.toml", ".".join(["a"] * 32_000) + " = 1\n"),
        ("mise.toml", "[" + ".".join(["a"] * 8_000) + "]\n"),
        ("mise.toml", '[tools]\nelixir = "' + "1" * 60_000 + '"\n'),
        ("mise.toml", "x = " + "[" * 16_000),
        ("elixir_buildpack.config", "\n" * 65_000),
        ("elixir_buildpack.config", "elixir_version=" * 4_000),
        (".tool-versions", "elixir " + "1." * 32_000),
        (".tool-versions", "elixir " + "-otp-" * 13_000),
        ("mix.exs", "\n" * 65_000),
        ("mix.exs", "elixir:" + " " * 65_000),
        ("mix.exs", "elixir: " * 8_000),
    ],
)
def test_no_file_takes_long_to_read(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    tracemalloc.start()
    try:
        began = time.process_time()
        assert not toolchain_files.read(tmp_path).anything
        assert time.process_time() - began < 2
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_a_file_for_which_the_memory_is_too_small_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_text: str) -> None:
        raise MemoryError

    (tmp_path / "mise.toml").write_text('[tools]\nelixir = "1.18"\n')
    monkeypatch.setattr(tomllib, "loads", fail)
    assert not toolchain_files.read(tmp_path).anything


def test_each_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def loads(text: str) -> dict[str, object]:
        read.append(text)
        return {}

    monkeypatch.setattr(tomllib, "loads", loads)
    (tmp_path / "mise.toml").write_text("[tools]\n")
    toolchain_files.read(tmp_path)
    assert len(read) == 1


def test_no_pattern_looks_for_the_beginning_of_a_line_over_several_lines() -> None:
    r"""`^\s*` takes a time that grows with the square of the number of empty lines."""
    source = Path(toolchain_files.__file__).parents[1]
    found = [str(path) for path in source.rglob("*.py") if r"^\s*" in path.read_text()]
    assert found == []
