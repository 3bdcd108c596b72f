"""Open LiveViews in a hot upgrade, with a channel that stands in for LiveView's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.hot.conftest import Hot

LIVE = """
defmodule Phoenix.LiveView.Socket do
  defstruct [:view, :parent_pid, assigns: %{__changed__: %{}}, private: %{live_temp: %{}},
             fingerprints: {nil, %{}}, endpoint: Counter]
end

# The protocol of LiveView 1.0, as far as a page has need of it: only what counts as changed is sent
# to the browser.
defmodule Phoenix.LiveView.Channel do
  use GenServer
  alias Phoenix.LiveView.Socket

  def init(view) do
    Process.put(:"$initial_call", {view, :mount, 3})
    socket = %Socket{view: view, assigns: Map.put(view.mount(), :__changed__, %{typed: true})}
    {:ok, rendered(%{socket: socket, components: {%{}, %{}, 1}, browser: %{}})}
  end

  def handle_call(:seen, _, state), do: {:reply, Map.to_list(state.browser), state}

  def handle_cast({:type, text}, state) do
    assigns = %{state.socket.assigns | typed: text, __changed__: %{typed: true}}
    {:noreply, rendered(put_in(state.socket.assigns, assigns))}
  end

  def handle_info({:phoenix_live_reload, _, _}, %{socket: socket} = state) do
    {mod, fun, args} = socket.private.phoenix_reloader
    apply(mod, fun, [socket.endpoint | args])
    {:noreply, rendered(state)}
  end

  def handle_info(msg, state), do: state.socket.view.handle_info(msg, state.socket)

  defp rendered(%{socket: socket} = state) do
    {print, _} = socket.fingerprints
    sent = if socket.assigns.__changed__ != %{}, do: parts(print, socket), else: %{}
    socket = %{socket | fingerprints: {1, %{}}, assigns: %{socket.assigns | __changed__: %{}}}
    %{state | socket: socket, browser: Map.merge(state.browser, sent)}
  end

  # the text of a function component without assigns goes to the browser once
  defp parts(nil, socket), do: Map.put(parts(1, socket), :item, socket.view.item(socket.assigns))
  defp parts(_, socket), do: %{page: socket.view.render(Map.put(socket.assigns, :socket, socket))}
end
"""
VIEW = """
defmodule Counter.View do
  def __live__, do: %{}
  def mount, do: %{typed: ""}
  def render(assigns), do: "page one #{assigns.typed} #{inspect(tracked(assigns))}"
  def item(_assigns), do: Counter.Words.item()
  # as static_changed?/1 does, which raises after the mount
  defp tracked(%{socket: %{private: %{connect_params: params}}}), do: params["_track_static"]
  defp tracked(_), do: :mount
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
    assert (probe["pages"], probe["pages_rendered"], probe["pages_crashed"]) == (2, 2, 0)
    seen = pages.rpc(SEEN)
    # the page, a component without assigns, and the assets that the page was loaded with
    first = f'[\\"assets/app-{"1" * 32}.js\\"]'
    assert f'page: "page two typed {first}"' in seen
    assert 'item: "item two "' in seen
    pages.world.run("rollback", "shop")
    seen = pages.rpc(SEEN)
    assert f'page: "page one typed {first}"' in seen
    assert 'item: "item one "' in seen
    assert pages.pid() == pid


def test_one_that_crashes_is_a_note(pages: Hot) -> None:
    pages.replace(FILE, "def item(_assigns)", "def item(%{banner: _})")
    output = pages.push()
    assert pages.strategy() == "hot"
    assert "2 open LiveViews crashed in the new code" in output
    assert "0 of 2 open LiveViews rendered again" in output
    assert pages.world.last()["outcome"] == "succeeded"


def test_pages_are_left_alone_if_so_set(pages: Hot) -> None:
    pages.world.run("settings", "set", "shop", "hot.rerender=false")
    try:
        pages.write(FILE, VIEW.replace(" one ", " two "))
        output = pages.push()
    finally:
        pages.world.run("settings", "unset", "shop", "hot.rerender")
    assert "open LiveView" not in output
    assert 'page: "page one typed :mount"' in pages.rpc(SEEN)


def test_a_function_of_the_release_before_last_in_their_assigns(pages: Hot) -> None:
    """As the `dom_id` of a stream: a swap would purge its code, and the next rendering crash."""
    close_pages(pages)
    captures = VIEW.replace('typed: ""', 'typed: "", id: &id/1').replace(
        "#{assigns.typed}", "#{assigns.id.(assigns.typed)}"
    )
    captures = captures.replace("  # as static", "  defp id(text), do: text\n  # as static")
    pages.write(FILE, captures)
    pages.push()
    open_pages(pages)
    pages.write(FILE, captures.replace(" one ", " two "))
    assert "2 of 2 open LiveViews rendered again" in pages.push()
    pages.write(FILE, captures.replace(" one ", " three "))
    pages.push()
    assert pages.strategy() == "rolling"
    assert "functions of Counter.View from before the last upgrade" in pages.reasons()
