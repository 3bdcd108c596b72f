"""The rendering of open LiveViews after a hot upgrade, as a deployment sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest

from gatling.beam.answers import Pages
from gatling.beam.comparison import Answers, Beam, Comparison
from gatling.deploy.cutover import hot, pages
from gatling.errors import NodeUnreachable, SupervisorFailed
from tests.deploy.stage import Node, release

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.beam.control import Control
    from gatling.deploy.evidence.prober import Proof
    from tests.deploy.stage import Stage

CHANGED = Comparison("same", changed=[Beam("Elixir.Shop.Page", app="shop")], pages=2)
STATIC = "lib/shop-0.1.0/priv/static"


def upgrade(stage: Stage, found: Comparison, more: dict[str, str] | None = None) -> Proof:
    return hot.upgrade(
        stage.gatling, stage.context(more), cast("Control", Node(stage)), release(7), release(8),
        (found, cast("Answers | None", None)),
        before_decision=lambda: None, on_live=lambda: None,
    )  # fmt: skip


def test_they_render_after_the_watch_and_are_counted(stage: Stage) -> None:
    proof = upgrade(stage, CHANGED, {"hot.boot_check": "after"})
    rendering, decided = stage.done.index("render pages"), stage.done.index("decide for v8 in 1")
    assert stage.done.index("watch") < rendering < decided < stage.done.index("pages rendered")
    assert "wait until it is healthy" in stage.done[rendering:decided], stage.done
    swap = stage.done.index("swap v7 → v8")
    assert stage.done[swap - 1] == stage.done[swap + 1] == "prepare pages"
    assert (proof.pages, proof.pages_rendered, proof.pages_failed) == (2, 1, 1)
    assert str(proof).endswith("1 of 2 open LiveViews rendered again")


@pytest.mark.parametrize(
    ("found", "more"),
    [(CHANGED, {"hot.rerender": "false"}), (Comparison("same", pages=2), {})],
    ids=["set", "no_change"],
)
def test_when_they_do_not(stage: Stage, found: Comparison, more: dict[str, str]) -> None:
    assert upgrade(stage, found, more).pages == 0
    assert not {"prepare pages", "render pages"} & set(stage.done)


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("render pages", NodeUnreachable("gone")),
        ("pages rendered", NodeUnreachable("gone")),
        ("pages rendered", RuntimeError("a fault")),
    ],
)
def test_a_failure_is_a_note(stage: Stage, step: str, error: Exception) -> None:
    stage.faults[step] = error
    stage.faults["prepare pages"] = NodeUnreachable("gone")
    assert upgrade(stage, CHANGED).pages == 0
    assert stage.live() == (8, 1)


def test_they_render_again_if_the_upgrade_is_undone(stage: Stage) -> None:
    stage.faults["wait until it is healthy"] = SupervisorFailed("never healthy")
    with pytest.raises(SupervisorFailed):
        upgrade(stage, CHANGED, {"hot.boot_check": "after"})
    assert stage.done.count("render pages") == 2
    back = stage.done.index("swap v8 → v7 at any rate")
    assert stage.done.index("render pages", back) > back


def test_the_assets_are_those_of_the_release_before(tmp_path: Path) -> None:
    latest = {"app.css": "app-1.css", "js/deep/x.js": "js/deep/x-1.js", "a.png": "a-1.png"}
    manifest(tmp_path, json.dumps({"latest": latest, "version": 1}))
    assert pages.assets(tmp_path) == ["app-1.css", "js/deep/x-1.js"]
    manifest(tmp_path, json.dumps({"latest": {f"{n}.js": f"{n}-1.js" for n in range(100)}}))
    assert len(pages.assets(tmp_path)) == pages.MOST


@pytest.mark.parametrize("text", ["", "{", "[]", '{"latest": 1}', '{"latest": {"a.js": 1}}', "{}"])
def test_a_manifest_that_says_nothing(tmp_path: Path, text: str) -> None:
    manifest(tmp_path, text)
    assert pages.assets(tmp_path) == []


def test_manifests_that_are_not_read(tmp_path: Path) -> None:
    assert pages.assets(tmp_path) == []
    text = '{"latest": {"a.js": "a-1.js"}}'
    (tmp_path / "secret").write_text(text)
    directory = tmp_path / "release" / STATIC
    directory.mkdir(parents=True)
    (directory / "cache_manifest.json").symlink_to(tmp_path / "secret")
    assert pages.assets(tmp_path / "release") == []
    two = tmp_path / "two"
    for app in ("shop-0.1.0", "admin-0.1.0"):
        manifest(two, text, f"lib/{app}/priv/static")
    assert pages.assets(two) == []


def manifest(tree: Path, text: str, directory: str = STATIC) -> None:
    (tree / directory).mkdir(parents=True, exist_ok=True)
    (tree / directory / "cache_manifest.json").write_text(text)


def test_the_notes_name_what_shows_the_old_version() -> None:
    assert (
        pages.notes(Pages(open=9, rendered=9, failed=0, left=0, busy=0, unreached=0, why="")) == []
    )
    notes = pages.notes(
        Pages(open=9, rendered=1, failed=1, left=2, busy=3, unreached=2, why="undef")
    )
    assert [note.split()[0] for note in notes] == ["1", "2", "3", "2"]
    assert "open LiveView kept the old page until the next event" in notes[0]
    assert notes[0].endswith("the new code failed to render (undef)")
    assert "open LiveViews kept the old page until the next event" in notes[1]
    assert notes[3] == "2 open LiveViews will render in the background"
