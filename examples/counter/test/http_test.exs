defmodule Counter.HTTPTest do
  use ExUnit.Case, async: true
  alias Counter.HTTP

  defp parse(lines), do: HTTP.parse(Enum.join(lines ++ ["", ""], "\r\n"))

  test "a head, and what follows it" do
    head = "POST /increment?by=1 HTTP/1.1\r\nHost: a\r\nX-Odd:  b \r\nContent-Length: 3\r\n\r\n"
    assert {:ok, request, "abcGET"} = HTTP.parse(head <> "abcGET")
    assert %{method: "POST", path: "/increment", version: {1, 1}, length: 3} = request
    assert HTTP.values(request.headers, "x-odd") == ["b"]
  end

  test "every shorter piece of a head asks for more" do
    head = "GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"
    for n <- 0..(byte_size(head) - 1), do: assert(HTTP.parse(binary_part(head, 0, n)) == :more)
  end

  test "empty lines before a request are skipped, and a full address is a path" do
    assert {:ok, %{path: "/"}, ""} = parse(["", "GET / HTTP/1.1", "Host: a"])
    assert {:ok, %{path: "/c"}, ""} = parse(["GET http://a/c?d HTTP/1.1", "Host: a"])
  end

  test "what is wrong gets its status" do
    host = "Host: a"
    assert parse(["nonsense"]) == {:error, 400}
    assert parse(["GET / HTTP/1.1"]) == {:error, 400}
    assert parse(["GET / HTTP/1.1", host, host]) == {:error, 400}
    assert parse(["GET / HTTP/1.1", host, "no colon"]) == {:error, 400}
    assert parse(["GET / HTTP/2.0", host]) == {:error, 505}
    assert parse(["POST / HTTP/1.1", host, "Transfer-Encoding: chunked"]) == {:error, 501}
    assert parse(["POST / HTTP/1.1", host, "Content-Length: 9999999"]) == {:error, 413}

    for length <- ["-1", "+1", "1a", "", "1\r\nContent-Length: 2"] do
      assert parse(["POST / HTTP/1.1", host, "Content-Length: #{length}"]) == {:error, 400}
    end

    long = String.duplicate("a", 17_000)
    assert HTTP.parse("GET /" <> long) == {:error, 431}
    assert parse(["GET / HTTP/1.1", host, "X: " <> long]) == {:error, 431}
  end

  test "keep-alive depends on the version and the Connection header" do
    for {version, connection, expected} <- [
          {{1, 1}, [], true},
          {{1, 1}, [{"connection", "Upgrade, Close"}], false},
          {{1, 0}, [], false},
          {{1, 0}, [{"connection", "Keep-Alive"}], true}
        ] do
      assert HTTP.keep_alive?(%HTTP{version: version, headers: connection}) == expected
    end
  end
end
