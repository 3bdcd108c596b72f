"""Which callbacks a project has, found without following anything out of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gatling.build import callbacks

if TYPE_CHECKING:
    from pathlib import Path


def hook(project: Path, name: str, mode: int = 0o755) -> None:
    file = project / ".gatling/hooks" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(mode)


def test_a_project_without_any(tmp_path: Path) -> None:
    found = callbacks.find(tmp_path, "deploy")
    assert found == callbacks.Found("deploy")
    assert not found.any


def test_each_kind_has_its_file_and_its_hooks(tmp_path: Path) -> None:
    (tmp_path / "deploy.exs").touch()
    hook(tmp_path, "before_configure_nginx")
    hook(tmp_path, "after_mix_release")
    found = callbacks.find(tmp_path, "deploy")
    assert (found.file, list(found.hooks)) == (
        "deploy.exs", ["after_mix_release", "before_configure_nginx"]
    )  # fmt: skip
    found = callbacks.find(tmp_path, "upgrade")
    assert (found.file, list(found.hooks), found.notes) == ("", ["after_mix_release"], ())


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "deploy.exs").mkdir()
    (tmp_path / ".gatling/hooks/before_migrate").mkdir(parents=True)
    found = callbacks.find(tmp_path, "deploy")
    assert not found.any
    assert "before_migrate is not executable" in found.notes[0]


def test_a_linked_directory_is_not_listed(tmp_path: Path) -> None:
    secret, project = tmp_path / "secret", tmp_path / "project"
    hook(secret, "before_migrate")
    hook(secret, "a-name-of-nobody's-business")
    project.mkdir()
    (project / ".gatling").symlink_to(secret / ".gatling")
    assert callbacks.find(project, "deploy") == callbacks.Found("deploy")
    (project / ".gatling").unlink()
    (project / ".gatling").mkdir()
    (project / ".gatling/hooks").symlink_to(secret / ".gatling/hooks")
    assert callbacks.find(project, "deploy") == callbacks.Found("deploy")


def test_a_linked_hook_is_for_who_builds_to_follow(tmp_path: Path) -> None:
    hook(tmp_path, "before_migrate")
    (tmp_path / ".gatling/hooks/after_migrate").symlink_to("/nowhere")
    assert list(callbacks.find(tmp_path, "deploy").hooks) == ["after_migrate", "before_migrate"]


def test_names_are_shown_harmless_and_not_too_many(tmp_path: Path) -> None:
    hook(tmp_path, "a\x1b[2J")
    for number in range(30):
        hook(tmp_path, f"before_{number}")
    notes = callbacks.find(tmp_path, "deploy").notes
    assert len(notes) == callbacks.MAX_NOTES
    assert all(note.isprintable() for note in notes)


def test_facts_as_variables() -> None:
    facts = {"app": "shop", "port": None, "releases": ["0.1.0", "0.2.0"], "domains": "a\nb=c"}
    variables = callbacks.variables(facts)
    assert json.loads(variables.pop("GATLING_ENV")) == facts
    assert variables == {
        "GATLING_APP": "shop",
        "GATLING_RELEASES": "0.1.0 0.2.0",
        "GATLING_DOMAINS": "a\nb=c",
    }


def test_every_point_is_called_somewhere() -> None:
    moments = (callbacks.BEFORE_STORE, callbacks.AFTER_STORE, callbacks.BEFORE_MIGRATE,
               callbacks.AFTER_MIGRATE, callbacks.BEFORE_CUT_OVER, callbacks.BEFORE_DECISION,
               callbacks.LIVE)  # fmt: skip
    placed = [name for moment in moments for name in moment]
    assert len(placed) == len(set(placed))
    for kind in ("deploy", "upgrade"):
        own = [n for n in callbacks.points(kind) if not n.endswith(("_deps_get", "_compile"))]
        of_mix = {n for n in own if "_mix_" in n and not n.endswith("ecto_setup")}
        of_journal = {n for n in own if n.split("_", 1)[1] in callbacks.OWN}
        rest = [n for n in own if n not in of_mix | of_journal]
        assert [n for n in placed if n in rest] == rest
