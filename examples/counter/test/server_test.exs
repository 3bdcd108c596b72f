defmodule Counter.ServerTest do
  use ExUnit.Case

  @get "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"

  defp connect do
    {:ok, socket} =
      :gen_tcp.connect({127, 0, 0, 1}, Counter.Listener.port(), [:binary, active: false])

    socket
  end

  # Reads one answer that has a Content-Length: {status, head, body}.
  defp answer(socket, read \\ "") do
    case String.split(read, "\r\n\r\n", parts: 2) do
      [head, body] ->
        [_, length] = Regex.run(~r/Content-Length: (\d+)/, head)
        missing = String.to_integer(length) - byte_size(body)
        body = if missing > 0, do: body <> receive_all(socket, missing), else: body
        "HTTP/1.1 " <> <<status::binary-size(3), _::binary>> = head
        {String.to_integer(status), head, body}

      _ ->
        answer(socket, read <> receive_all(socket, 1))
    end
  end

  defp receive_all(socket, length) do
    {:ok, data} = :gen_tcp.recv(socket, length, 5_000)
    data
  end

  defp request(socket, text) do
    :ok = :gen_tcp.send(socket, text)
    answer(socket)
  end

  defp get(path), do: request(connect(), "GET #{path} HTTP/1.1\r\nHost: a\r\n\r\n")

  defp post(path, body \\ "") do
    head = "POST #{path} HTTP/1.1\r\nHost: a\r\nContent-Length: #{byte_size(body)}\r\n\r\n"
    request(connect(), head <> body)
  end

  test "the plain pages" do
    assert {200, _, "ok"} = get("/health")
    assert {200, _, version} = get("/version")
    assert version == Counter.version()
    assert Version.parse(version) != :error
    assert {404, _, _} = get("/env?name=HOME")
    assert {405, head, _} = get("/increment")
    assert head =~ "Allow: POST"
    assert {405, _, _} = post("/count")
  end

  test "the page shows the version and the greeting, escaped" do
    Application.put_env(:counter, :greeting, "<Hello> & 'welcome'")
    on_exit(fn -> Application.delete_env(:counter, :greeting) end)
    assert {200, _, page} = get("/")
    assert page =~ "<h1>#{Counter.Page.title()}</h1>"
    assert page =~ Counter.version()
    assert page =~ "&lt;Hello&gt; &amp; &#39;welcome&#39;"
  end

  test "increment adds one, whatever its body" do
    {200, _, before} = get("/count")
    assert {200, _, one} = post("/increment", "a body")
    assert String.to_integer(one) == String.to_integer(before) + 1
    assert {200, _, ^one} = get("/count")
  end

  test "several requests on one connection, in pieces and all at once" do
    socket = connect()

    for part <- for(<<byte <- @get>>, do: <<byte>>) do
      :ok = :gen_tcp.send(socket, part)
    end

    assert {200, head, "ok"} = answer(socket)
    assert head =~ "Connection: keep-alive"

    post = "POST /increment HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    :ok = :gen_tcp.send(socket, @get <> post <> "bo")
    :ok = :gen_tcp.send(socket, "dy" <> @get)
    assert {200, _, "ok"} = answer(socket)
    assert {200, _, number} = answer(socket)
    assert String.to_integer(number) > 0
    assert {200, _, "ok"} = answer(socket)
  end

  test "the connection is closed when the client or an error says so" do
    for {text, status} <- [
          {"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200},
          {"GET /health HTTP/1.0\r\n\r\n", 200},
          {"nonsense\r\n\r\n", 400},
          {"GET / HTTP/1.1\r\nHost: a\r\nX: #{String.duplicate("x", 100_000)}\r\n\r\n", 431}
        ] do
      socket = connect()
      assert {^status, head, _} = request(socket, text)
      assert head =~ "Connection: close"
      assert {:error, :closed} = :gen_tcp.recv(socket, 0, 1_000)
    end
  end

  test "HEAD has the length, but no body" do
    socket = connect()
    :ok = :gen_tcp.send(socket, "HEAD /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    {:ok, head} = :gen_tcp.recv(socket, 0, 1_000)
    assert head =~ "Content-Length: 2\r\n"
    assert String.ends_with?(head, "\r\n\r\n")
    assert {:error, :closed} = :gen_tcp.recv(socket, 0, 1_000)
  end

  test "Expect: 100-continue is answered before the body comes" do
    socket = connect()

    head =
      "POST /increment HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"

    :ok = :gen_tcp.send(socket, head)
    assert receive_all(socket, 25) == "HTTP/1.1 100 Continue\r\n\r\n"
    assert {200, _, _} = request(socket, "ab")
  end

  test "events tell the count at once and each change, until the client goes" do
    socket = connect()
    :ok = :gen_tcp.send(socket, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
    {:ok, data} = :gen_tcp.recv(socket, 0, 1_000)
    assert data =~ "text/event-stream"
    assert [_, now] = Regex.run(~r/\r\n\r\ndata: (\d+)\n\n\z/, data)

    {200, _, next} = post("/increment")
    assert String.to_integer(next) == String.to_integer(now) + 1
    assert :gen_tcp.recv(socket, 0, 1_000) == {:ok, "data: #{next}\n\n"}

    :ok = :gen_tcp.close(socket)
    assert eventually(fn -> :sys.get_state(Counter.Store).subscribers == %{} end)
  end

  test "a suspended connection answers after it is resumed" do
    socket = connect()
    assert {200, _, "ok"} = request(socket, @get)
    {:ok, local} = :inet.sockname(socket)

    # Connections of earlier tests may be ending: only this one has our port as its peer.
    {pid, _peer} =
      for({_, pid, _, _} <- DynamicSupervisor.which_children(Counter.Connections), do: pid)
      |> Enum.flat_map(fn pid -> for port <- ports(pid), do: {pid, :inet.peername(port)} end)
      |> List.keyfind({:ok, local}, 1)

    :ok = :sys.suspend(pid)
    :ok = :gen_tcp.send(socket, @get)
    assert {:error, :timeout} = :gen_tcp.recv(socket, 0, 100)
    :ok = :sys.change_code(pid, Counter.Connection, ~c"0.1.0", [])
    :ok = :sys.resume(pid)
    assert {200, _, "ok"} = answer(socket)
  end

  test "a port that is taken is an error with a clear message" do
    Process.flag(:trap_exit, true)
    port = Counter.Listener.port()

    ExUnit.CaptureLog.capture_log(fn ->
      assert {:error, message} = GenServer.start_link(Counter.Listener, port: port)
      assert message =~ "cannot listen on port #{port}: address already in use"
    end)
  end

  defp ports(pid) do
    case Process.info(pid, :links) do
      {:links, links} -> Enum.filter(links, &is_port/1)
      nil -> []
    end
  end

  defp eventually(check, tries \\ 100) do
    check.() or (tries > 0 and Process.sleep(10) == :ok and eventually(check, tries - 1))
  end
end
