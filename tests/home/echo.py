"""An app that tells what reaches it: the request as it arrived, the length of its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Project, World

MIX = """\
defmodule Echo.MixProject do
  use Mix.Project
  def project, do: [app: :echo, version: "0.1.0"]
  def application, do: [extra_applications: [:logger], mod: {Echo, []}]
end
"""

# GET /socket   switches protocols, then sends back whatever it gets; `bye` ends it
# GET /hangup   closes the connection without an answer
# GET /says/503 answers that, with a page of the app's own
# GET /https/200 answers that by https, and sends there what comes without
# GET /after/500 answers after so many milliseconds
# GET /stream/9 answers with so many megabytes; `/streamed` says how many such have been sent whole
# GET /deaf     reads nothing of a body, for 20 seconds
# GET /stubborn from now on SIGTERM does not end it
# …             answers with the request's head, and how many bytes its body had
APP = r"""
defmodule Echo do
  use Application

  def start(_type, _args) do
    port = String.to_integer(System.fetch_env!("PORT"))
    {:ok, listener} =
      :gen_tcp.listen(port, [:binary, active: false, reuseaddr: true, nodelay: true])
    children = [{Task, fn -> accept(listener) end}]
    Supervisor.start_link(children, strategy: :one_for_one, name: Echo.Supervisor)
  end

  defp accept(listener) do
    {:ok, socket} = :gen_tcp.accept(listener)
    pid = spawn(fn -> receive do: (:go -> request(socket, "")) end)
    :ok = :gen_tcp.controlling_process(socket, pid)
    send(pid, :go)
    accept(listener)
  end

  defp request(socket, read) do
    case String.split(read, "\r\n\r\n", parts: 2) do
      [head, body] -> answer(socket, head, body)
      [_part] ->
        case :gen_tcp.recv(socket, 0) do
          {:ok, data} -> request(socket, read <> data)
          {:error, _gone} -> :gen_tcp.close(socket)
        end
    end
  end

  defp answer(socket, head, body) do
    [_method, path | _] = String.split(head, " ")

    case String.split(path, "/") do
      ["", "socket"] -> upgrade(socket)
      ["", "hangup"] -> :gen_tcp.close(socket)
      ["", "says", status] -> say(socket, status, "the app's own page")
      ["", "https", status] -> say_by_https(socket, head, path, status)
      ["", "after", milliseconds] -> say_late(socket, String.to_integer(milliseconds))
      ["", "stream", megabytes] -> stream(socket, String.to_integer(megabytes))
      ["", "streamed"] -> say(socket, "200", "#{Application.get_env(:echo, :streamed, 0)}")
      ["", "deaf"] -> Process.sleep(20_000) && say(socket, "200", "read nothing")
      ["", "stubborn"] -> :os.set_signal(:sigterm, :ignore) && say(socket, "200", "stays")
      _ -> tell(socket, head, body)
    end
  end

  defp upgrade(socket) do
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    :ok = :gen_tcp.send(socket, head <> "\r\nhello")
    converse(socket)
  end

  defp say_by_https(socket, head, path, status) do
    if head =~ ~r/^x-forwarded-proto: https/im do
      say(socket, status, "by https")
    else
      away = "HTTP/1.1 301 Said\r\nLocation: https://echo.localhost#{path}\r\n"
      :gen_tcp.send(socket, away <> "Content-Length: 0\r\n\r\n")
      :gen_tcp.close(socket)
    end
  end

  defp say_late(socket, milliseconds) do
    Process.sleep(milliseconds)
    say(socket, "200", "answered in the end")
  end

  defp tell(socket, head, body) do
    length =
      case Regex.run(~r/^content-length: (\d+)/im, head) do
        [_, length] -> String.to_integer(length)
        nil -> 0
      end

    read =
      if head =~ ~r/^transfer-encoding: chunked/im,
        do: drain_chunks(socket, byte_size(body), body),
        else: drain(socket, length, byte_size(body))

    say(socket, "200", "#{head}\nBody-Bytes: #{read}\n")
  end

  defp drain_chunks(socket, read, last) do
    if String.ends_with?(last, "\r\n0\r\n\r\n") do
      read
    else
      {:ok, data} = :gen_tcp.recv(socket, 0)
      kept = binary_part(last, byte_size(last), -min(byte_size(last), 6))
      drain_chunks(socket, read + byte_size(data), kept <> data)
    end
  end

  defp drain(_socket, length, read) when read >= length, do: read

  defp drain(socket, length, read) do
    {:ok, data} = :gen_tcp.recv(socket, 0)
    drain(socket, length, read + byte_size(data))
  end

  defp stream(socket, megabytes) do
    head = "HTTP/1.1 200 Said\r\nContent-Length: #{megabytes * 1_000_000}\r\n\r\n"
    :gen_tcp.send(socket, head)
    piece = :binary.copy("x", 1_000_000)
    sent = for _ <- 1..megabytes, do: :gen_tcp.send(socket, piece)
    whole = Enum.all?(sent, &(&1 == :ok))
    count = Application.get_env(:echo, :streamed, 0)
    if whole, do: Application.put_env(:echo, :streamed, count + 1)
    :gen_tcp.close(socket)
  end

  defp say(socket, status, text) do
    head = "HTTP/1.1 #{status} Said\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    :gen_tcp.send(socket, "#{head}Content-Length: #{byte_size(text)}\r\n\r\n#{text}")
    :gen_tcp.close(socket)
  end

  defp converse(socket) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, "bye"} -> :gen_tcp.close(socket)
      {:ok, data} -> :gen_tcp.send(socket, data) && converse(socket)
      {:error, _gone} -> :gen_tcp.close(socket)
    end
  end
end
"""


def load(world: World, app: str = "echo") -> Project:
    """The app, loaded and ready to be pushed."""
    project = world.load(app)
    project.git("rm", "-r", "--quiet", "lib", "config", "mix.exs")
    project.write("mix.exs", MIX)
    project.write("lib/echo.ex", APP)
    project.commit("an app that tells what reaches it")
    return project
