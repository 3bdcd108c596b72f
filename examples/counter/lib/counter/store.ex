defmodule Counter.Store do
  @moduledoc "Holds the count and tells subscribers `{:count, number}` when it changes."
  use GenServer

  def start_link(_opts), do: GenServer.start_link(__MODULE__, 0, name: __MODULE__)

  def count, do: GenServer.call(__MODULE__, :count)
  def increment, do: GenServer.call(__MODULE__, :increment)

  @doc "Subscribes the calling process until it ends; returns the count as it is now."
  def subscribe, do: GenServer.call(__MODULE__, :subscribe)

  @impl true
  def init(count), do: {:ok, %{count: count, subscribers: %{}}}

  @impl true
  def handle_call(:count, _from, state), do: {:reply, state.count, state}

  def handle_call(:increment, _from, state) do
    count = state.count + 1
    for {_ref, pid} <- state.subscribers, do: send(pid, {:count, count})
    {:reply, count, %{state | count: count}}
  end

  def handle_call(:subscribe, {pid, _tag}, state) do
    subscribers = Map.put(state.subscribers, Process.monitor(pid), pid)
    {:reply, state.count, %{state | subscribers: subscribers}}
  end

  @impl true
  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) do
    {:noreply, %{state | subscribers: Map.delete(state.subscribers, ref)}}
  end
end
