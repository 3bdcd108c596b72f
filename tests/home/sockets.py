"""An app with websockets and channels below Phoenix' own supervisors, and browsers of it.

Phoenix itself cannot be here, so its modules are replaced by small ones that have the same names,
supervisors and messages. A browser reconnects as phoenix.js does: soon, then less and less often.
"""

from __future__ import annotations

import contextlib
import heapq
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tests.conftest import Project, World

MIX = """\
defmodule Sockets.MixProject do
  use Mix.Project
  def project, do: [app: :sockets, version: "0.1.0"]
  def application, do: [extra_applications: [:logger, :crypto], mod: {Sockets, []}]
end
"""

# GET /socket is a websocket with one channel, whose mount takes MOUNT_US of a processor
APP = r"""
defmodule Phoenix.Socket.Broadcast do
  defstruct [:topic, :event, :payload]
end

defmodule Phoenix.Socket.PoolSupervisor do
  use Supervisor
  def start_link(_), do: Supervisor.start_link(__MODULE__, [], name: __MODULE__)

  def init([]) do
    children =
      for n <- 0..1 do
        Supervisor.child_spec({DynamicSupervisor, name: name(n), strategy: :one_for_one}, id: n)
      end

    Supervisor.init(children, strategy: :one_for_one)
  end

  def start_child(spec), do: DynamicSupervisor.start_child(name(:erlang.phash2(self(), 2)), spec)
  def channels, do: for(n <- 0..1, {_, c, _, _} <- DynamicSupervisor.which_children(name(n)), do: c)
  defp name(n), do: :"pool_#{n}"
end

defmodule Phoenix.Socket.PoolDrainer do
  use GenServer
  def start_link(_), do: GenServer.start_link(__MODULE__, [])
  def init(_), do: {:ok, Process.flag(:trap_exit, true)}

  def terminate(_reason, _state) do
    for channel <- Phoenix.Socket.PoolSupervisor.channels(),
        do: send(channel, %Phoenix.Socket.Broadcast{event: "phx_drain"})
  end
end

defmodule Sockets.Channel do
  use GenServer, restart: :temporary
  def start_link(socket), do: GenServer.start_link(__MODULE__, socket)

  def init(socket) do
    Process.monitor(socket)
    {:ok, socket}
  end

  def handle_info(%Phoenix.Socket.Broadcast{event: "phx_drain"}, socket) do
    send(socket, :socket_drain)
    {:stop, {:shutdown, :draining}, socket}
  end

  def handle_info({:DOWN, _, :process, _, _}, socket), do: {:stop, {:shutdown, :closed}, socket}
end

defmodule Sockets do
  use Application

  def start(_type, _args) do
    port = String.to_integer(System.fetch_env!("PORT"))
    options = [:binary, active: false, reuseaddr: true, nodelay: true, backlog: 4096]
    {:ok, listener} = :gen_tcp.listen(port, options)

    children =
      [Phoenix.Socket.PoolSupervisor] ++
        for(n <- 1..4, do: Supervisor.child_spec({Task, fn -> accept(listener) end}, id: n)) ++
        [Phoenix.Socket.PoolDrainer]

    Supervisor.start_link(children, strategy: :one_for_one, name: Sockets.Supervisor)
  end

  defp accept(listener) do
    {:ok, socket} = :gen_tcp.accept(listener)
    pid = spawn(fn -> receive do: (:go -> request(socket, "")) end)
    :ok = :gen_tcp.controlling_process(socket, pid)
    send(pid, :go)
    accept(listener)
  end

  defp request(socket, read) do
    case {String.ends_with?(read, "\r\n\r\n"), read} do
      {true, "GET /socket" <> _} -> upgrade(socket, read)
      {true, _} -> say(socket)
      {false, _} -> with {:ok, more} <- :gen_tcp.recv(socket, 0), do: request(socket, read <> more)
    end
  end

  defp say(socket) do
    :gen_tcp.send(socket, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    :gen_tcp.close(socket)
  end

  defp upgrade(socket, head) do
    [_, key] = Regex.run(~r/^sec-websocket-key: (\S+)/im, head)
    magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accepted = Base.encode64(:crypto.hash(:sha, key <> magic))
    mount(String.to_integer(System.get_env("MOUNT_US", "0")), System.monotonic_time(:microsecond))
    {:ok, channel} = Phoenix.Socket.PoolSupervisor.start_child({Sockets.Channel, self()})
    Process.monitor(channel)

    :gen_tcp.send(socket, [
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
      "Sec-WebSocket-Accept: #{accepted}\r\n\r\n"
    ])

    :inet.setopts(socket, active: true)
    open(socket)
  end

  defp mount(us, begun) do
    if System.monotonic_time(:microsecond) < begun + us, do: mount(us, begun)
  end

  defp open(socket) do
    receive do
      :socket_drain ->
        # the code for a restart of the service
        :gen_tcp.send(socket, <<0x88, 2, 1012::16>>)
        :gen_tcp.close(socket)

      {:tcp_closed, _} ->
        :ok

      _ ->
        open(socket)
    end
  end
end
"""

REQUEST = (
    b"GET /socket HTTP/1.1\r\nHost: sockets.localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
CLOSED = b"\x88\x02\x03\xf4"
"""A close frame with the code 1012."""
DELAYS = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Before each attempt to reconnect, as in phoenix.js."""


def load(world: World) -> Project:
    """The app `sockets`, loaded and ready to be pushed."""
    project = world.load("sockets")
    project.git("rm", "-r", "--quiet", "lib", "config", "mix.exs")
    project.write("mix.exs", MIX)
    project.write("lib/sockets.ex", APP)
    project.commit("an app with sockets")
    return project


class Browser:
    """One page with a socket."""

    def __init__(self) -> None:
        self.read = b""
        self.attempts = 0
        self.open = False
        self.lost_at = 0.0


class Browsers:
    """Pages whose sockets are open during the block, and reconnect when they are closed."""

    def __init__(self, port: int, count: int, addresses: int = 1) -> None:
        self._port, self._count, self._addresses = port, count, addresses
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Browser]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._connected = 0
        self.open = 0
        self.closed: list[tuple[float, bool]] = []
        """When a socket was closed, and whether with the code for a restart."""
        self.reconnected: list[float] = []
        """How long it took until each of them was open again."""
        self.failed = 0
        """Attempts that were refused, or answered with something else."""

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self._later(Browser(), 0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _later(self, browser: Browser, seconds: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, id(browser), browser))

    def _run(self) -> None:
        while not self._stopped.is_set():
            begun = 0
            # so many handshakes at a time, as no number of real browsers fills a queue of accept()
            while self._due and self._due[0][0] <= time.monotonic() and begun < 100:
                self._connect(heapq.heappop(self._due)[2])
                begun += 1
            for key, _ in self._selector.select(0.005):
                self._receive(key.fileobj, key.data)

    def _connect(self, browser: Browser) -> None:
        connection = socket.socket()
        connection.settimeout(10)
        browser.read = b""
        # a port that was used a moment ago may not be used again from the same address
        self._connected = (self._connected + 1) % self._addresses
        try:
            connection.bind((f"127.0.0.{self._connected + 1}", 0))
            connection.connect(("127.0.0.1", self._port))
            connection.sendall(REQUEST)
        except OSError:
            connection.close()
            self._again(browser)
            return
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, browser)

    def _again(self, browser: Browser) -> None:
        if browser.attempts:
            self.failed += 1
        self._later(browser, DELAYS[min(browser.attempts, len(DELAYS) - 1)])
        browser.attempts += 1

    def _receive(self, connection: Any, browser: Browser) -> None:
        piece = b""
        with contextlib.suppress(OSError):
            piece = connection.recv(4096)
        browser.read += piece
        if not browser.open and ACCEPTED in browser.read and b"\r\n\r\n" in browser.read:
            browser.open, browser.read, browser.attempts = True, b"", 0
            self.open += 1
            if browser.lost_at:
                self.reconnected.append(time.monotonic() - browser.lost_at)
        if piece:
            return
        self._selector.unregister(connection)
        connection.close()
        if browser.open:
            browser.open, browser.lost_at = False, time.monotonic()
            self.open -= 1
            self.closed.append((time.monotonic(), browser.read == CLOSED))
        self._again(browser)
