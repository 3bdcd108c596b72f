"""Options of a push: what they do, and which of them reject it."""

from __future__ import annotations

import tempfile

import pytest

from gatling.errors import PushRefused
from gatling.ssh import push_options
from gatling.ui.progress import Progress


def take(monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    """What the pusher reads."""
    monkeypatch.setenv(push_options.VARIABLE, "1")  # of somebody else
    monkeypatch.setenv("GIT_PUSH_OPTION_COUNT", str(len(options)))
    for number, option in enumerate(options):
        monkeypatch.setenv(f"GIT_PUSH_OPTION_{number}", option)
    with tempfile.TemporaryFile("w+") as stream:
        push_options.take(Progress(stream))
        stream.seek(0)
        return stream.read()


def test_a_push_is_rehearsed_if_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no effect" not in take(monkeypatch, "color", "rehearse")
    assert push_options.rehearses()
    said = take(monkeypatch, "ci.skip", "merge_request.create", "", "verbose")
    assert said.count("has no effect here") == 4
    assert not push_options.rehearses()


@pytest.mark.parametrize(("option", "said"), [
    ("rehearse=yes", "The push option rehearse takes no value"),
    ("rehearse=", "The push option rehearse takes no value"),
    ("color=always", "The push option color takes no value"),
    ("rehears", "Did you mean rehearse?"), ("Rehearse", "Did you mean rehearse?"),
    ("rehersal=1", "Did you mean rehearse?"), ("colour", "Did you mean color?"),
])  # fmt: skip
def test_an_option_that_cannot_be(monkeypatch: pytest.MonkeyPatch, option: str, said: str) -> None:
    with pytest.raises(PushRefused, match=said.replace("?", r"\?")) as refused:
        take(monkeypatch, option)
    assert "rehearse" in str(refused.value.hint) or "color" in str(refused.value.hint)
