"""What `bin/test --quick` runs beside the units: one whole push, hot upgrade and recovery."""

from __future__ import annotations

import ast
from pathlib import Path

import hypothesis
import pytest

from tests.conftest import SLOW

TESTS = Path(__file__).parent
KINDS = ["a hot upgrade", "a push", "a recovery"]


def test_there_is_one_test_of_each_kind() -> None:
    kinds = [
        kind
        for directory in SLOW
        for file in (TESTS / directory).rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        for kind in marked(node)
    ]
    assert sorted(kinds) == KINDS


@pytest.mark.parametrize("directory", SLOW)
def test_slow_directories_are_there(directory: str) -> None:
    """One that was renamed would count as quick."""
    assert list((TESTS / directory).glob("test_*.py"))


def test_generated_examples_have_no_time_limit() -> None:
    """Unless a test sets one: a slow machine would exceed any."""
    assert hypothesis.settings().deadline is None
    assert hypothesis.HealthCheck.too_slow in hypothesis.settings().suppress_health_check


def marked(test: ast.FunctionDef) -> list[str]:
    """The kinds that a test is marked with."""
    return [
        ast.literal_eval(mark.args[0])
        for mark in test.decorator_list
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.quick"
    ]
