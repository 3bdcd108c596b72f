"""Each step of a deployment has a test that kills Gatling at it; that test is named here."""

from __future__ import annotations

import ast
import re

import pytest

from tests.cluster.test_hot import POINTS as CLUSTER_HOT_POINTS
from tests.cluster.test_killed import POINTS as CLUSTER_POINTS
from tests.cluster.test_move import POINTS as MOVE_POINTS
from tests.cluster.test_move import POINTS_BACK as MOVE_BACK_POINTS
from tests.conftest import ROOT
from tests.hot.test_recovery import POINTS as HOT_POINTS
from tests.push.test_recovery import POINTS as PUSH_POINTS

PUSH = "push/test_recovery.py::test_killed_at_every_step"
HOT = "hot/test_recovery.py::test_killed"
CLUSTER = "cluster/test_killed.py::test_killed_at_every_step"
CLUSTER_HOT = "cluster/test_hot.py::test_killed_at_every_step"
MOVE = "cluster/test_move.py::test_killed_at_every_step"
KILLED_BY = {
    **{point.split()[1]: MOVE for point in MOVE_POINTS if " " in point},
    **{point.split()[1]: CLUSTER_HOT for point in CLUSTER_HOT_POINTS if " " in point},
    **{point.split()[1]: PUSH for point in PUSH_POINTS if " " in point},
    **{point.split()[1]: CLUSTER for point in CLUSTER_POINTS if " " in point},
    **{point.split()[1]: HOT for point in HOT_POINTS if " " in point},
    "install_toolchain": "push/test_toolchain.py::test_killed_while_one_is_downloaded",
    "rehearse_migrations": "home/test_rehearsals.py::test_a_killed_rehearsal_leaves_no_fork",
    "migrate": "push/test_migrations.py::test_killed_while_they_run",
    "setup": "push/test_migrations.py::test_setup_is_run_once_after_the_first_migrations",
    "rehearsal": "hot/test_rehearsal.py::test_killed_while_rehearsing",
    "swap_back": "hot/test_undone.py::test_killed_while_it_is_taken_back",
    "replace_pods": "cluster/test_hot.py::test_a_pod_that_differs_is_replaced_first",
    "stop_instance": "cluster/test_move.py::test_an_app_that_must_run_alone_is_stopped_first",
    "processes": "home/test_processes.py::test_a_killed_deployment_leaves_those_of_what_is_live",
}
ONE_PROGRAM = {"toolchain", "npm_install", "mix_digest", "mix_release_init", "release_tool"}
"""Steps of the same `mix` process as mix_compile, which is killed at that and at mix_release."""
DECISIONS = {"decided", "ended", "stored", "pointed"}
"""The changes of records and proxy at which it is killed, too."""


def named() -> set[str]:
    """The steps that the source names."""
    found = set()
    for file in (ROOT / "src/gatling").rglob("*.py"):
        text = file.read_text()
        constants = dict(re.findall(r'^([A-Z_]+) = "(\w+)"$', text, re.MULTILINE))
        for word in re.findall(r"(?:journal|wanted)\.step\(([^)]+)\)", text):
            found.add(ast.literal_eval(word) if word[0] == '"' else constants[word])
    build = (ROOT / "src/gatling/build/priv/build_task.ex").read_text()
    return found | set(re.findall(r'step\(marker, "(\w+)"', build))


def test_every_step_is_killed_in_some_test() -> None:
    assert named() == KILLED_BY.keys() | ONE_PROGRAM


@pytest.mark.parametrize(("step", "test"), KILLED_BY.items(), ids=KILLED_BY)
def test_the_test_is_there_and_names_the_step(step: str, test: str) -> None:
    path, _, name = test.partition("::")
    text = (ROOT / "tests" / path).read_text()
    (found,) = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    assert "POINTS" in found or "point" in found or "kill(" in found
    assert test in (PUSH, HOT, CLUSTER, CLUSTER_HOT, MOVE) or step in found


@pytest.mark.parametrize(
    "points",
    [PUSH_POINTS, HOT_POINTS, CLUSTER_POINTS, CLUSTER_HOT_POINTS, MOVE_POINTS, MOVE_BACK_POINTS],
    ids=["push", "hot", "cluster", "cluster hot", "move", "move back"],
)
def test_each_is_killed_as_it_begins_and_as_it_ends(points: list[str]) -> None:
    steps = {point.split()[1] for point in points if " " in point}
    assert {f"{when} {step}" for step in steps for when in ("begin", "end")} <= set(points)


def test_so_is_each_change_of_the_records_and_the_proxy() -> None:
    assert set(PUSH_POINTS) >= DECISIONS
    assert {"decided", "ended"} <= set(HOT_POINTS)
    assert {"decided", "ended"} <= set(CLUSTER_POINTS) & set(CLUSTER_HOT_POINTS)
    assert {"decided", "ended"} <= set(MOVE_POINTS) & set(MOVE_BACK_POINTS)
