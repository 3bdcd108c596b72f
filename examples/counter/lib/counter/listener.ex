defmodule Counter.Listener do
  @moduledoc "Owns the listening socket and the processes that accept connections on it."
  use GenServer
  require Logger

  @acceptors 4
  @options [
    :binary,
    ip: {0, 0, 0, 0},
    active: false,
    backlog: 1024,
    nodelay: true,
    reuseaddr: true,
    # Shorter than the 5 s within which an upgrade must be able to suspend a process.
    send_timeout: 4_000,
    send_timeout_close: true
  ]

  def start_link(opts), do: GenServer.start_link(__MODULE__, opts, name: __MODULE__)

  @doc "The port in use (of interest when it was configured as 0: any free one)."
  def port, do: GenServer.call(__MODULE__, :port)

  @impl true
  def init(opts) do
    port = Keyword.fetch!(opts, :port)

    case :gen_tcp.listen(port, @options) do
      {:ok, socket} ->
        for _ <- 1..@acceptors, do: :proc_lib.spawn_link(__MODULE__, :accept_loop, [socket])
        {:ok, port} = :inet.port(socket)
        Logger.info("Counter #{Counter.version()} listens on port #{port}")
        {:ok, %{socket: socket, port: port}}

      {:error, reason} ->
        message = "Counter cannot listen on port #{port}: #{:inet.format_error(reason)}"
        Logger.error(message)
        {:stop, message}
    end
  end

  @impl true
  def handle_call(:port, _from, state), do: {:reply, state.port, state}

  # Comes back at least once a second, through a call that names the module, so that
  # no acceptor stays in old code after a hot upgrade.
  @doc false
  def accept_loop(listener) do
    case :gen_tcp.accept(listener, 1_000) do
      {:ok, socket} -> hand_over(socket)
      {:error, reason} when reason in [:timeout, :econnaborted] -> :ok
      {:error, reason} when reason in [:emfile, :enfile, :system_limit] -> Process.sleep(100)
      {:error, reason} -> exit(reason)
    end

    __MODULE__.accept_loop(listener)
  end

  defp hand_over(socket) do
    {:ok, pid} = DynamicSupervisor.start_child(Counter.Connections, {Counter.Connection, socket})
    _ = :gen_tcp.controlling_process(socket, pid)
    send(pid, :serve)
  end
end
