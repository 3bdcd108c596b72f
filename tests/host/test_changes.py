"""What an installation consists of: the same list in a dry run and in a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.host.changes import Change, manual_page, needed

if TYPE_CHECKING:
    from pathlib import Path


def test_what_follows_from_a_change_is_listed_although_nothing_is_made() -> None:
    """A real run makes each change before it looks at the next, a dry run makes none."""
    state = {"file": "old", "loaded": True}

    def write() -> None:
        state.update(file="new", loaded=False)

    every = [
        Change("user", lambda: False, print, renews=True),
        Change("write", lambda: state["file"] != "new", write, renews=True),
        Change("load", lambda: not state["loaded"], lambda: state.update(loaded=True),
               renews=True, follows=True),
        Change("reload", lambda: False, print, follows=True),
        Change("other", lambda: False, print),
    ]  # fmt: skip
    dry = [change.what for change in needed(every)]
    real = []
    for change in needed(every):
        real.append(change.what)
        change.make()
    assert dry == real == ["write", "load", "reload"]
    assert list(needed(every)) == []


def test_the_manual_page_is_written_where_its_text_differs(tmp_path: Path) -> None:
    file = tmp_path / "man/man1/gatling.1"
    for text in ("first", "second"):
        change = manual_page(file, text)
        assert change.what == f"write {file}"
        (again,) = needed([change])
        again.make()
        assert file.read_text() == text
        assert file.stat().st_mode & 0o777 == 0o644
        assert list(needed([change])) == []
