"""What is asked in a pod before a hot upgrade, with doubles; tests/cluster has real pods."""

from __future__ import annotations

import io
import tarfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from gatling.beam import etf, toolbox
from gatling.beam.comparison import Comparison
from gatling.beam.etf import Atom
from gatling.deploy.cluster import planner
from gatling.errors import NodeUnreachable, PlannerFailed
from gatling.platform.kubernetes.execute import Ended

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.beam.comparison import Answers

SECOND = {"memory.max": b"536870912\n", "memory.current": b"500000000\n"}
FIRST = {
    "memory/memory.limit_in_bytes": b"536870912\n",
    "memory/memory.usage_in_bytes": b"500000000\n",
    "memory/memory.stat": b"cache 9\ntotal_inactive_file 300000000\n",
}
ASKS = Comparison("same", asks_trees=["shop"], asks_modules=["Elixir.Shop.Item"])
LIVE, TARGET = (
    cast("Any", SimpleNamespace(number=number, label=f"v{number}", name="shop"))
    for number in (1, 2)
)


class Pod:
    """A node with these control groups, and what runs in its container."""

    def __init__(self, groups: dict[str, bytes], first: Comparison, status: int = 0) -> None:
        self._groups, self._first, self._status = groups, first, status
        self.files: dict[str, bytes] = {}
        self.removed = 0
        self.ran: list[list[str]] = []
        self.inspected: list[Answers | None] = []
        self.node = SimpleNamespace(call=self._call)

    def _call(self, module: str, function: str, *given: Any, **_: object) -> Any:
        path = "".join(map(chr, given[0])) if isinstance(given[0], list) else ""
        if function == "read_file":
            found = self._groups.get(path.removeprefix("/sys/fs/cgroup/"))
            return (Atom("error"), Atom("enoent")) if found is None else (Atom("ok"), found)
        if function == "del_dir_r":
            self.removed += 1
            self.files.clear()
        elif function == "extract":
            with tarfile.open(fileobj=io.BytesIO(given[0][1])) as archive:
                self.files |= dict.fromkeys(archive.getnames(), b"")
        elif function == "write_file":
            self.files[path] = given[1]
        else:
            assert (module, function) in (("file", "make_dir"), ("file", "change_mode"))
            assert function == "make_dir" or given[1] == 0o700
        return Atom("ok")

    def inspect(self, _live: object, _target: object, answered: Answers | None) -> Comparison:
        self.inspected.append(answered)
        return self._first if answered is None else Comparison("same")

    def execute(self, pod: str, words: list[str], *, timeout: float) -> Ended:
        assert pod == "shop-a"
        assert timeout > 0
        self.ran.append(words)
        return Ended(self._status, b"", b"** (KeyError) key :limit not found\n")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for number in (1, 2):
        (tmp_path / f"v{number}/lib/shop-0.{number}/ebin").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/gatling_planner.beam").write_bytes(b"FOR1")
    monkeypatch.setattr(toolbox, "beams", lambda *_: tmp_path / "tools")
    return SimpleNamespace(release=lambda number: tmp_path / f"v{number}", cache_anchor=tmp_path)


def compared(pod: Pod, paths: Any) -> Any:
    return planner.compared(cast("Any", pod), paths, "shop-a", cast("Any", pod), LIVE, TARGET)


def test_code_that_nothing_refers_to_needs_no_questions(paths: Any) -> None:
    plain = Comparison("same")
    pod = Pod({}, plain)
    assert compared(pod, paths) == (plain, None)
    other = Pod({}, Comparison(["13.0", "14.0"], asks_trees=["shop"]))
    assert compared(other, paths)[1] is None
    assert pod.ran == other.ran == []


def test_both_releases_are_asked_in_the_pod_one_after_the_other(paths: Any) -> None:
    pod = Pod({}, ASKS)
    found, answers = compared(pod, paths)
    assert pod.inspected == [None, answers]
    assert found == Comparison("same")
    directory = answers.old.parent
    assert directory.parent == planner.PLACE
    for words, number, file in zip(pod.ran, (1, 2), (answers.old, answers.new), strict=True):
        assert f"/gatling/releases/v{number}/bin/shop" in words
        assert {f"GATLING_PLANNER={file}", f"GATLING_TOOLBOX={directory}"} <= set(words)
        asked = etf.decode(pod.files[str(file)])
        assert asked == {"apps": ["shop"], "trees": ["shop"], "modules": ["Elixir.Shop.Item"]}
    assert "gatling_planner.beam" in pod.files
    assert pod.removed == 1, "what a killed command has left goes first"


def test_a_release_that_does_not_boot_says_why(paths: Any) -> None:
    pod = Pod({}, ASKS, status=1)
    with pytest.raises(PlannerFailed, match=r"v1 does not boot: \*\* \(KeyError\) key :limit"):
        compared(pod, paths)
    assert len(pod.ran) == 1


@pytest.mark.parametrize(
    ("groups", "free"),
    [
        ({}, None),
        ({"memory.max": b"max\n"}, None),
        # what a node says is the app's word
        ({"memory.max": "²".encode()}, None),
        ({"memory.max": b"9" * 5000}, None),
        (SECOND | {"memory.current": b"-\xff", "memory.stat": b"inactive_file x\n"}, 536870912),
        ({"memory/memory.limit_in_bytes": b"9223372036854771712\n"}, None),
        (SECOND, 36870912),
        (SECOND | {"memory.stat": b"anon 1\ninactive_file 200000000\n"}, 236870912),
        (FIRST, 336870912),
    ],
)
def test_room_below_the_limit_of_memory(
    groups: dict[str, bytes], free: int | None, paths: Any
) -> None:
    """The instance would be killed for what a node more needs."""
    pod = Pod(groups, ASKS)
    if free is not None and free < planner.ROOM_BYTES:
        with pytest.raises(PlannerFailed, match=r"only 35 MB are free below limits\.memory"):
            compared(pod, paths)
        assert pod.ran == []
    else:
        compared(pod, paths)
        assert len(pod.ran) == 2


def test_a_pod_that_takes_no_files_is_none_to_ask(paths: Any, monkeypatch: Any) -> None:
    pod = Pod({}, ASKS)
    call = pod.node.call
    full = (Atom("error"), Atom("enospc"))
    monkeypatch.setattr(
        pod.node, "call", lambda *given, **more: full if given[1] == "make_dir" else call(
            *given, **more)
    )  # fmt: skip
    with pytest.raises(NodeUnreachable, match="takes no files"):
        compared(pod, paths)
    assert pod.ran == []
