"""Open LiveViews in a hot upgrade, with modules that stand in for LiveView's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.hot.conftest import Hot

LIVE = """
defmodule Phoenix.LiveView.Socket do
  defstruct [:view, :parent_pid, :transport_pid, assigns: %{__changed__: %{}},
             private: %{live_temp: %{}}, fingerprints: {nil, %{}}]
end

# As LiveView 1.0: only what counts as changed, or has not been sent, goes to the browser.
defmodule Phoenix.LiveView.Diff do
  # the text of a function component without assigns goes to the browser once
  def render(%{fingerprints: {print, _}} = socket, rendered, components) do
    diff = if print, do: Map.delete(rendered, :item), else: rendered
    {%{socket | fingerprints: {1, %{}}}, diff, components}
  end

  def write_component(socket, cid, {map, ids, next}, fun) do
    {module, id, assigns, private, _} = Map.fetch!(map, cid)
    {%{assigns: assigns}, extra} = fun.(%{socket | assigns: assigns}, module)
    sent? = assigns.__changed__ == %{}
    diff = if sent?, do: %{}, else: %{c: %{cid => module.render(assigns)}}
    component = {module, id, %{assigns | __changed__: %{}}, private, {1, %{}}}
    {diff, {%{map | cid => component}, ids, next}, extra}
  end

  def render_private(_socket, diff), do: diff
end

defmodule Phoenix.LiveView.Renderer do
  def to_rendered(socket, view), do: view.render(Map.put(socket.assigns, :socket, socket))
end

defmodule Phoenix.LiveView.Lifecycle do
  def after_render(socket), do: socket
end

defmodule Phoenix.LiveView.Utils do
  def clear_changed(socket), do: put_in(socket.assigns.__changed__, %{})
  def clear_temp(socket), do: put_in(socket.private.live_temp, %{})
end

defmodule Phoenix.Socket.Message do
  defstruct [:topic, :event, :payload, :ref, :join_ref]
  def encode!(%{event: "diff", payload: diff}), do: {:diff, diff}
end

# The process is its own browser.
defmodule Phoenix.LiveView.Channel do
  use GenServer
  alias Phoenix.LiveView.{Diff, Renderer, Socket, Utils}

  def init(view) do
    Process.put(:"$initial_call", {view, :mount, 3})
    assigns = Map.put(view.mount(), :__changed__, %{typed: true})
    part = {Counter.Part, "part", %{__changed__: %{}, n: 7}, %{}, {1, %{}}}
    socket = %Socket{view: view, transport_pid: self(), assigns: assigns}
    state = %{socket: socket, components: {%{1 => part}, %{}, 2}, topic: "lv:1", join_ref: "4"}
    {:ok, rendered(Map.merge(state, %{serializer: Phoenix.Socket.Message, browser: %{}}))}
  end

  def handle_call(:seen, _, state), do: {:reply, Map.to_list(state.browser), state}

  def handle_cast({:type, text}, state) do
    assigns = %{state.socket.assigns | typed: text, __changed__: %{typed: true}}
    {:noreply, rendered(put_in(state.socket.assigns, assigns))}
  end

  def handle_info({:diff, diff}, state), do: {:noreply, shown(state, diff)}
  def handle_info({:phoenix_live_reload, _, _}, state), do: {:noreply, rendered(state)}
  def handle_info(msg, state), do: state.socket.view.handle_info(msg, state.socket)

  defp rendered(%{socket: socket} = state) do
    rendered = Renderer.to_rendered(socket, socket.view)
    {socket, diff, components} = Diff.render(socket, rendered, state.components)
    shown(%{state | socket: Utils.clear_changed(socket), components: components}, diff)
  end

  defp shown(state, diff), do: %{state | browser: Map.merge(state.browser, diff)}
end
"""
VIEW = """
defmodule Counter.View do
  def __live__, do: %{}
  def mount, do: %{typed: ""}
  def render(assigns), do: %{page: page(assigns), item: item(assigns)}
  def page(assigns), do: "page one #{assigns.typed} #{inspect(tracked(assigns))}"
  def item(_assigns), do: Counter.Words.item()
  # as static_changed?/1 does, which raises after the mount
  defp tracked(%{socket: %{private: %{connect_params: params}}}), do: params["_track_static"]
  defp tracked(_), do: :mount
end

defmodule Counter.Part do
  def render(assigns), do: "part one #{assigns.n}"
end
"""
GONE_LATER = 'defmodule Counter.Words do\n  def item, do: "item one "\nend\n'
FILE = "lib/counter/view.ex"
WORDS = "lib/counter/words.ex"
MANIFEST = "priv/static/cache_manifest.json"
SEEN = 'IO.inspect(for n <- 1..2, do: GenServer.call(:"page#{n}", :seen))'


def assets(digit: str) -> str:
    files = f'{{"assets/app.js": "assets/app-{digit * 32}.js", "a.png": "a-{digit * 32}.png"}}'
    return f'{{"latest": {files}, "digests": {{}}, "version": 1}}\n'


@pytest.fixture
def pages(hot: Hot) -> Hot:
    """The app with two open pages, into one of which somebody has typed."""
    hot.world.run("settings", "set", "shop", "hot.watch=0.05")
    hot.write("lib/counter/live.ex", LIVE)
    hot.write(FILE, VIEW)
    hot.write(WORDS, GONE_LATER)
    hot.write(MANIFEST, assets("1"))
    hot.push()
    open_pages(hot)
    return hot


def open_pages(hot: Hot) -> None:
    hot.rpc(
        "for n <- 1..2 do GenServer.start(Phoenix.LiveView.Channel, Counter.View, "
        'name: :"page#{n}", hibernate_after: 10) end; GenServer.cast(:page1, {:type, "typed"})'
    )


def close_pages(hot: Hot) -> None:
    hot.rpc('for n <- 1..2, do: GenServer.stop(:"page#{n}")')


def test_they_show_the_new_version_and_keep_what_they_hold(pages: Hot) -> None:
    assert 'page: "page one typed :mount"' in pages.rpc(SEEN)
    pid = pages.pid()
    # the new version lacks a function that the open pages call: new requests are paused, too
    pages.write(FILE, VIEW.replace(" one ", " two ").replace("Counter.Words.item()", '"item two "'))
    pages.write(WORDS, "defmodule Counter.Words do\nend\n")
    pages.write(MANIFEST, assets("2"))
    output = pages.push()
    assert pages.strategy() == "hot"
    assert "new requests paused for" in output
    assert "renders 2 open LiveViews again" in pages.reasons()
    assert "2 of 2 open LiveViews rendered again" in output
    probe = pages.world.last()["probe"]
    assert (probe["pages"], probe["pages_rendered"], probe["pages_failed"]) == (2, 2, 0)
    seen = pages.rpc(SEEN)
    # the page with the assets that it was loaded with, a function component without assigns, and
    # a LiveComponent with its state
    first = f'[\\"assets/app-{"1" * 32}.js\\"]'
    assert f'page: "page two typed {first}"' in seen
    assert 'item: "item two "' in seen
    assert 'c: %{1 => "part two 7"}' in seen
    pages.world.run("rollback", "shop")
    seen = pages.rpc(SEEN)
    assert f'page: "page one typed {first}"' in seen
    assert 'item: "item one "' in seen
    assert 'c: %{1 => "part one 7"}' in seen
    assert pages.pid() == pid


def test_those_that_cannot_render_stay_as_they_are(pages: Hot) -> None:
    """The new template of the LiveComponent needs an assign, which the open ones lack."""
    pages.replace(FILE, "part one #{assigns.n}", "part two #{assigns.banner}")
    pages.replace(FILE, "page one", "page two")
    output = pages.push()
    assert pages.strategy() == "hot"
    later = "2 open LiveViews kept the old page until the next event"
    assert f"{later}: the new code failed to render (KeyError (key :banner not found)" in output
    assert "0 of 2 open LiveViews rendered again" in output
    assert pages.world.last()["outcome"] == "succeeded"
    seen = pages.rpc(SEEN)
    assert 'page: "page one typed' in seen
    assert " two " not in seen


def test_clicks_before_their_turn_do_not_crash_them(pages: Hot) -> None:
    """LiveView renders a changed template whole, and static_changed?/1 raises after the mount."""
    pages.rpc(
        "spawn(fn -> for _ <- Stream.cycle([1]) do "
        'GenServer.cast(:page1, {:type, "clicked"}); Process.sleep(2) end end)'
        " |> Process.register(:clicks)"
    )
    before = pages.rpc("IO.inspect(Process.whereis(:page1))")
    pages.world.run("settings", "set", "shop", "hot.watch=1")
    try:
        two = VIEW.replace(" one ", " two ")
        pages.write(FILE, two.replace("tracked(_), do: :mount", 'tracked(_), do: raise("mount")'))
        output = pages.push()
    finally:
        pages.world.run("settings", "set", "shop", "hot.watch=0.05")
        pages.rpc("Process.exit(Process.whereis(:clicks), :kill)")
    assert pages.strategy() == "hot"
    assert "crashed" not in output
    assert "2 of 2 open LiveViews rendered again" in output
    assert pages.rpc("IO.inspect(Process.whereis(:page1))") == before
    seen = pages.rpc(SEEN)
    assert f'page: "page two clicked [\\"assets/app-{"1" * 32}.js\\"]"' in seen


def test_pages_are_left_alone_if_so_set(pages: Hot) -> None:
    pages.world.run("settings", "set", "shop", "hot.rerender=false")
    try:
        pages.write(FILE, VIEW.replace(" one ", " two "))
        output = pages.push()
    finally:
        pages.world.run("settings", "unset", "shop", "hot.rerender")
    assert "open LiveView" not in output
    seen = pages.rpc(SEEN)
    assert 'page: "page one typed' in seen
    assert " two " not in seen


def holding(capture: str) -> str:
    """The page with a function in its assigns, as the `dom_id` of a stream."""
    stream = f'typed: "", streams: %{{rows: %{{dom_id: &{capture}/1}}}}'
    called = "#{assigns.streams.rows.dom_id.(assigns.typed)}"
    holds = VIEW.replace('typed: ""', stream).replace("#{assigns.typed}", called)
    kind = "def" if "." in capture else "defp"
    return holds.replace("  # as static", f"  {kind} id(text), do: text\n  # as static")


def test_a_function_of_the_release_before_last_in_their_assigns(pages: Hot) -> None:
    """A swap would purge its code, and the next rendering crash."""
    close_pages(pages)
    captures = holding("id")
    pages.write(FILE, captures)
    pages.push()
    open_pages(pages)
    pages.write(FILE, captures.replace(" one ", " two "))
    assert "2 of 2 open LiveViews rendered again" in pages.push()
    pages.write(FILE, captures.replace(" one ", " three "))
    pages.push()
    assert pages.strategy() == "rolling"
    assert "functions of Counter.View from before the last upgrade" in pages.reasons()


def test_a_public_function_in_their_assigns_is_the_newest(pages: Hot) -> None:
    close_pages(pages)
    captures = holding("__MODULE__.id")
    pages.write(FILE, captures)
    pages.push()
    open_pages(pages)
    for word in ("two", "three"):
        newest = captures.replace(" one ", f" {word} ").replace(
            "do: text", f'do: "{word} #{{text}}"'
        )
        pages.write(FILE, newest)
        assert "2 of 2 open LiveViews rendered again" in pages.push()
        assert f'page: "page {word} {word} typed' in pages.rpc(SEEN)
