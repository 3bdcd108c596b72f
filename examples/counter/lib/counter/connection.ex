defmodule Counter.Connection do
  @moduledoc """
  One client's connection: requests one after another, or the stream of events.

  All work is done in callbacks, with the socket `active: :once`, so that the process
  can be suspended at any time and goes on in new code after a hot upgrade.
  """
  use GenServer, restart: :temporary
  alias Counter.{HTTP, Router, Store}

  @idle 75_000
  @keep_alive 15_000
  @linger 2_000
  @stream_headers [
    {"Content-Type", "text/event-stream"},
    {"Cache-Control", "no-store"},
    {"X-Accel-Buffering", "no"}
  ]

  def start_link(socket), do: GenServer.start_link(__MODULE__, socket)

  # Trapping exits lets a shutdown wait for the callback that is writing an answer.
  @impl true
  def init(socket) do
    Process.flag(:trap_exit, true)
    {:ok, set_timer(%{socket: socket, phase: :head, buffer: "", timer: nil}, @idle)}
  end

  # Sent by the acceptor once the socket is ours.
  @impl true
  def handle_info(:serve, state), do: read_more(state)

  def handle_info({:tcp, _socket, data}, %{phase: phase} = state) do
    case phase do
      ignoring when ignoring in [:events, :closing] -> read_more(state)
      _reading -> serve(%{state | buffer: state.buffer <> data})
    end
  end

  def handle_info({:count, count}, %{phase: :events} = state), do: push(state, event(count))

  def handle_info({:timeout, timer, :timer}, %{timer: timer, phase: :events} = state) do
    state |> set_timer(@keep_alive) |> push(": keep-alive\n\n")
  end

  def handle_info({:timeout, timer, :timer}, %{timer: timer} = state), do: {:stop, :normal, state}
  def handle_info({:timeout, _old_timer, :timer}, state), do: {:noreply, state}

  # The client has gone or, if this is a stream, the store it came from.
  def handle_info({:tcp_closed, _socket}, state), do: {:stop, :normal, state}
  def handle_info({:tcp_error, _socket, _reason}, state), do: {:stop, :normal, state}
  def handle_info({:DOWN, _, :process, _, _}, state), do: {:stop, :normal, state}
  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state), do: :gen_tcp.close(state.socket)

  defp serve(%{phase: :head, buffer: buffer} = state) do
    case HTTP.parse(buffer) do
      {:ok, request, rest} ->
        if rest == "" and request.length > 0, do: continue(request, state.socket)
        serve(%{state | phase: {:body, request, request.length}, buffer: rest})

      :more ->
        read_more(state)

      {:error, status} ->
        response = {status, [{"Content-Type", "text/plain"}], HTTP.reason(status)}
        respond(state, response, true, false)
    end
  end

  # No path here has a use for a body: it is read and dropped.
  defp serve(%{phase: {:body, request, left}, buffer: buffer} = state) do
    case byte_size(buffer) - left do
      extra when extra >= 0 ->
        answer(request, %{state | phase: :head, buffer: binary_part(buffer, left, extra)})

      missing ->
        read_more(%{state | phase: {:body, request, -missing}, buffer: ""})
    end
  end

  defp continue(request, socket) do
    if "100-continue" in HTTP.values(request.headers, "expect") do
      :gen_tcp.send(socket, "HTTP/1.1 100 Continue\r\n\r\n")
    end
  end

  defp answer(request, state) do
    case Router.call(request) do
      :events -> stream(state)
      response -> respond(state, response, request.method != "HEAD", HTTP.keep_alive?(request))
    end
  end

  defp respond(state, {status, headers, body}, body?, keep_alive?) do
    headers = [{"Content-Length", Integer.to_string(byte_size(body))} | headers]
    head = HTTP.head(status, headers, keep_alive?)

    case :gen_tcp.send(state.socket, if(body?, do: [head, body], else: head)) do
      :ok when keep_alive? -> state |> set_timer(@idle) |> serve()
      :ok -> close(state)
      {:error, _reason} -> {:stop, :normal, state}
    end
  end

  # Closing at once would reset the connection if the client is still sending, and
  # it could lose the answer: end our side, then wait a little for the client's end.
  defp close(state) do
    _ = :gen_tcp.shutdown(state.socket, :write)
    read_more(set_timer(%{state | phase: :closing, buffer: ""}, @linger))
  end

  defp stream(state) do
    Process.monitor(Store)
    count = Store.subscribe()
    first = [HTTP.head(200, @stream_headers, false), event(count)]

    case :gen_tcp.send(state.socket, first) do
      :ok -> read_more(set_timer(%{state | phase: :events, buffer: ""}, @keep_alive))
      {:error, _reason} -> {:stop, :normal, state}
    end
  end

  defp event(count), do: "data: #{count}\n\n"

  defp push(state, text) do
    case :gen_tcp.send(state.socket, text) do
      :ok -> {:noreply, state}
      {:error, _reason} -> {:stop, :normal, state}
    end
  end

  defp read_more(state) do
    case :inet.setopts(state.socket, active: :once) do
      :ok -> {:noreply, state}
      {:error, _reason} -> {:stop, :normal, state}
    end
  end

  defp set_timer(%{timer: old} = state, time) do
    if old, do: :erlang.cancel_timer(old, async: true, info: false)
    %{state | timer: :erlang.start_timer(time, self(), :timer)}
  end
end
