"""A request in the midst of code that calls a function which goes with an upgrade is waited for."""

from __future__ import annotations

import contextlib
import http.client
import threading
from functools import partial
from typing import TYPE_CHECKING, Self

import pytest

from tests.conftest import Answer, output_of, until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.hot.conftest import Hot

ROUTER = "lib/counter/router.ex"
FMT = 'defmodule Counter.Fmt do\n  def {name}(n), do: "{name} #{{n}}"\nend\n'
SLOW = """
defmodule Counter.Slow do
  def page do
    Counter.Deep.wait("{gate}", {depth})
    {call}
  end
end
"""
# more calls than the emulator tells of a stack by itself, or at all
DEEP = """
defmodule Counter.Deep do
  def wait(gate, 0) do
    if File.exists?(gate), do: :ok, else: (Process.sleep(10); wait(gate, 0))
  end

  def wait(gate, n), do: {n, wait(gate, n - 1)}
end
"""
DIRECT, HANDED_OVER = "Counter.Fmt.{name}(3)", "hd(Enum.map([3], &Counter.Fmt.{name}/1))"


class Request:
    """One that lasts until its gate is opened."""

    def __init__(self, hot: Hot, gate: Path) -> None:
        self._hot, self._gate = hot, gate
        self._answers: list[Answer] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: "true" in self._hot.rpc(WAITS), "the request")
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.touch()
        self._thread.join()

    def answer(self) -> tuple[int, str]:
        self._gate.touch()
        self._thread.join()
        return self._answers[0].status, self._answers[0].text

    def _ask(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._answers.append(self._hot.world.get("/slow"))


WAITS = (
    "IO.puts(Enum.any?(Process.list(), fn p -> match?({_, [_ | _]},"
    " Process.info(p, :current_stacktrace)) and Enum.any?(elem(Process.info(p,"
    " :current_stacktrace), 1), &(elem(&1, 0) == Counter.Deep)) end))"
)


def prepared(hot: Hot, call: str, gate: Path, depth: int = 20) -> None:
    """The app with a page that calls a function of another module in the end."""
    gate.unlink(missing_ok=True)
    hot.replace(ROUTER, '    "/count" =>', '    "/slow" => ["GET"],\n    "/count" =>')
    hot.replace(
        ROUTER, '  defp answer("/events")',
        '  defp answer("/slow"), do: text(200, Counter.Slow.page())\n  defp answer("/events")',
    )  # fmt: skip
    hot.write("lib/counter/deep.ex", DEEP)
    named(hot, call, gate, "price", depth)
    hot.push()


def named(hot: Hot, call: str, gate: Path, name: str, depth: int = 20) -> None:
    hot.write("lib/counter/fmt.ex", FMT.format(name=name))
    hot.write(
        "lib/counter/slow.ex", SLOW.format(gate=gate, depth=depth, call=call.format(name=name))
    )


@pytest.mark.parametrize(("call", "depth"), [(DIRECT, 20), (HANDED_OVER, 20), (DIRECT, 200)])
def test_it_is_answered_by_the_code_that_it_began_in(
    hot: Hot, tmp_path: Path, call: str, depth: int
) -> None:
    gate = tmp_path / "gate"
    prepared(hot, call, gate, depth)
    hot.world.run("settings", "set", "shop", "hot.suspend=120")
    try:
        before, count = hot.pid(), hot.count()
        with Request(hot, gate) as request:
            named(hot, call, gate, "cost", depth)
            hot.project.commit()
            push = hot.project.start_push()
            hot.world.at_step("hot_swap")
            assert request.answer() == (200, "price 3")
            said = output_of(push)
    finally:
        hot.world.run("settings", "unset", "shop", "hot.suspend")
    assert hot.strategy() == "hot"
    assert "waits for requests in Counter.Slow, which calls the removed Counter.Fmt.price/1" in said
    assert hot.world.last()["probe"]["failed"] == 0
    assert (hot.pid(), hot.count()) == (before, count)
    assert hot.world.get("/slow").text == "cost 3"


def test_one_that_lasts_goes_on_in_the_old_instance(hot: Hot, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    prepared(hot, DIRECT, gate)
    settings = ("hot.suspend=0.3", "instance.drain=120")
    hot.world.run("settings", "set", "shop", *settings)
    try:
        with Request(hot, gate) as request:
            named(hot, DIRECT, gate, "cost")
            hot.project.commit()
            push = hot.project.start_push()
            hot.world.at_step("drain")
            assert request.answer() == (200, "price 3")
            output_of(push)
    finally:
        hot.world.run("settings", "unset", "shop", "hot.suspend", "instance.drain")
    assert hot.strategy() == "rolling"
    assert "is in Counter.Slow, which calls Counter.Fmt.price/1, which is removed" in hot.reasons()
    assert hot.world.last()["probe"]["failed"] == 0
    assert hot.world.get("/slow").text == "cost 3"


def has_come_to_watch(hot: Hot, push: subprocess.Popen[str]) -> bool:
    """Whether a push is in its watch, or over."""
    return push.poll() is not None or hot.world.is_at("watch")


def seen_in_watch(hot: Hot) -> subprocess.Popen[str]:
    """Push a release that answers with errors, and see it in its watch, which those end at once."""
    for _ in range(5):
        push = hot.project.start_push()
        until(partial(has_come_to_watch, hot, push), "the watch", longest=0.01)
        if push.poll() is None:
            return push
        output_of(push, None)  # the test was too slow to see it
    raise AssertionError("no push was seen in its watch")


def test_a_bad_upgrade_is_taken_back_all_the_same(hot: Hot, tmp_path: Path) -> None:
    """Also when a request is in code that calls what only the bad release has."""
    gate = tmp_path / "gate"
    prepared(hot, DIRECT, gate)
    before, count = hot.pid(), hot.count()
    hot.world.run("settings", "set", "shop", "hot.suspend=1", "hot.watch=20")
    try:
        named(hot, DIRECT, gate, "cost")
        hot.replace(ROUTER, 'defp answer("/"), do: {200,', 'defp answer("/"), do: {500,')
        hot.project.commit()
        push = seen_in_watch(hot)
        with Request(hot, gate):
            said = output_of(push, None)
    finally:
        hot.world.run("settings", "unset", "shop", "hot.suspend", "hot.watch")
        hot.world.run("settings", "set", "shop", "hot.watch=0.3")
    assert push.returncode != 0
    assert "runs again, with its previous states" in said
    assert (hot.pid(), hot.count()) == (before, count)


def test_code_that_goes_itself_may_call_what_goes(hot: Hot, tmp_path: Path) -> None:
    prepared(hot, DIRECT, tmp_path / "gate")
    hot.restore()
    hot.push()
    assert hot.strategy() == "hot", hot.reasons()
    with_it, without = hot.world.last()["previous"], hot.world.status()["release"]
    assert hot.world.json("plan", "shop", with_it)["waits_for"] == []
    hot.world.run("rollback", "shop", with_it)
    assert hot.world.json("plan", "shop", without)["waits_for"] == [
        {"module": "Counter.Router", "calls": "Counter.Slow.page/0"},
        {"module": "Counter.Slow", "calls": "Counter.Deep.wait/2"},
    ]


def test_where_only_hot_will_do_nothing_is_left_of_the_wait(hot: Hot, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    prepared(hot, DIRECT, gate)
    before = hot.world.status()["release"]
    named(hot, DIRECT, gate, "cost")
    hot.write("lib/counter/extra.ex", "defmodule Counter.Extra do\nend\n")
    hot.push()
    after = hot.world.status()["release"]
    hot.world.run("rollback", "shop", before)
    words = ("deploy", "shop", after, "--strategy", "hot")
    hot.world.run("settings", "set", "shop", "hot.suspend=0.3")
    try:
        with Request(hot, gate) as request:
            assert "which calls Counter.Fmt.price/1" in hot.world.run(*words, ok=False)
            assert request.answer() == (200, "price 3")
    finally:
        hot.world.run("settings", "unset", "shop", "hot.suspend")
    assert "false" in hot.rpc("IO.puts(:erlang.module_loaded(Counter.Extra))")
    hot.world.run(*words)
    assert hot.strategy() == "hot"
    assert hot.world.get("/slow").text == "cost 3"
