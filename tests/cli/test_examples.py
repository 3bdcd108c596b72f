"""Examples in help, documents and errors are what the command line and the reader understand."""

from __future__ import annotations

import re

import click
import pytest

from gatling.cli import cli
from gatling.project import manifest, settings
from tests.cli import examples
from tests.cli.conftest import tree


@pytest.fixture(autouse=True)
def _home_of_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("GATLING_HOME", str(tmp_path))


def wrong(line: str, words: list[str]) -> str:
    try:
        examples.parse(words)
    except click.UsageError as error:
        return f"{line}: {error.format_message()}"
    return ""


def test_every_command_has_an_example_of_itself() -> None:
    shown: dict[str, list[str]] = {}
    for where, line in examples.of_help():
        shown.setdefault(where, []).extend(map(examples.parse, examples.called(line)))
    for path, command in tree(cli):
        name = " ".join(path)
        assert shown.get(name), name
        of_itself = isinstance(command, click.Group) or set(shown[name]) == {name}
        assert of_itself or name == "settings", (name, shown[name])


@pytest.mark.parametrize(("where", "line"), [*examples.of_help(), *examples.of_blocks()])
def test_a_line_of_shell_is_understood(where: str, line: str) -> None:
    failures = [wrong(line, words) for words in examples.called(line)]
    assert not any(failures), (where, failures)


def test_what_texts_and_errors_advise_is_understood() -> None:
    failures = [
        f"{where}: {wrong(line, words)}"
        for where, line in examples.of_text()
        for words in examples.called(line)
        if not examples.is_name(words) and wrong(line, words)
    ]
    assert failures == [], "\n".join(failures)


def test_examples_are_found() -> None:
    """A test that finds none of them would hold for ever."""
    assert len(list(examples.of_help())) > 70
    assert sum(len(examples.called(line)) for _, line in examples.of_blocks()) > 12
    said = [line for _, line in examples.of_text()]
    assert "gatling rollback shop v3" in said
    assert "gatling domains list VALUE" in said
    for line in (
        "gatling nonsense shop",
        "gatling status",
        "gatling status shop blog",
        "gatling status shop --jason",
        "gatling deploy shop v7 --strategy sometimes",
        "sudo gatling server keys add ann --role king < ann.pub",
        "ssh gatling@server.example.com load shop --wide",
        "cd x && gatling config set",
    ):
        (words,) = examples.called(line)
        assert wrong(line, words), line


def test_every_manifest_in_a_document_is_valid() -> None:
    found = [(page, text) for page in examples.PAGES for text in examples.blocks(page, "toml")]
    assert {page.name for page, _ in found} >= {"README.md", "settings.md", "operations.md"}
    for page, text in found:
        said = manifest.parse(text.encode())
        assert said, page
        settings.parse(said)


def test_every_setting_in_an_example_is_one() -> None:
    lines = [*examples.of_help(), *examples.of_blocks(), *examples.of_text()]
    said = [words[3:] for _, line in lines for words in examples.called(line)
            if words[:2] in (["settings", "set"], ["settings", "unset"])]  # fmt: skip
    pairs = [word.partition("=") for words in said for word in words if word[:1].islower()]
    assert len(pairs) > 8
    keys = {re.sub(r"^(processes|schedule)\.\w+", r"\1.NAME", key) for key, _, _ in pairs}
    assert keys <= settings.known().keys()
    for key, _, value in pairs:
        if value and not re.fullmatch(r"[A-Z]+|…", value):
            settings.parse({key: value})
