"""A mirror of builds on loopback, with the layout of Hex' builds, and faults at will."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gatling.platform.toolchains.mirror import this_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path("/")
DEBIAN_ELIXIR, DEBIAN_OTP = "usr/lib/elixir", "usr/lib/erlang"
COMMIT = "0" * 40


class Mirror:
    """Serves files, with the checksums that it is given for them or their true ones."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lists: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.fault: Callable[[str, BaseHTTPRequestHandler], bool] = lambda _path, _handler: False
        """Answers a request in another way; whether it did."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def elixir(self, version: str, otp: str, *, archive: bytes | None = None,
               sha256: str | None = None) -> None:  # fmt: skip
        """Offer a build of Elixir."""
        name = f"v{version}-otp-{otp}"
        data = small_elixir(version) if archive is None else archive
        self._add("builds/elixir", name, f"{name}.zip", data, sha256)

    def otp(self, version: str, *, archive: bytes | None = None, sha256: str | None = None) -> None:
        """Offer a build of OTP for this host."""
        data = small_otp(version) if archive is None else archive
        name = f"OTP-{version}"
        self._add(f"builds/otp/{this_host()[0]}", name, f"{name}.tar.gz", data, sha256)

    def _add(self, where: str, name: str, file: str, data: bytes, sha256: str | None) -> None:
        checksum = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
        self.files[f"{where}/{file}"] = data
        lines = self.lists.setdefault(where, [])
        lines.append(f"{name} {COMMIT} 2026-01-02T03:04:05Z {checksum}".strip())
        self.files[f"{where}/builds.txt"] = ("\n".join(lines) + "\n").encode()

    def write(self, directory: Path) -> None:
        """Put all files below a directory, for another server."""
        for path, data in self.files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(data)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.lstrip("/")
                mirror.asked.append(path)
                if mirror.fault(path, self):
                    return
                data = mirror.files.get(path)
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


def hang(_path: str, handler: BaseHTTPRequestHandler) -> bool:
    """Begin an answer that goes nowhere."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"v1")
    handler.wfile.flush()
    time.sleep(20)
    return True


def small_elixir(version: str) -> bytes:
    """An archive with the files by which an Elixir is known, in the form of those on a mirror."""
    app = f'{{application,elixir,[{{vsn,"{version}"}}]}}.\n'
    shell = f"#!/bin/sh\necho Elixir {version}\n"
    return zipped({"bin/elixir": shell, "bin/mix": shell, "bin/iex": shell,
                   "lib/elixir/ebin/elixir.app": app})  # fmt: skip


def zipped(files: dict[str, str]) -> bytes:
    """A zip archive."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()


def small_otp(version: str, padding: int = 0) -> bytes:
    """The same of OTP, as it is before its script `Install` has run, and a file of some bytes."""
    major = version.partition(".")[0]
    top, erts = f"OTP-{version}", f"erts-{major}.1"
    return tarred(
        (f"{top}/Install", "#!/bin/sh\nexit 1\n", 0o755),
        (
            f"{top}/{erts}/bin/erlexec",
            f"#!/bin/sh\necho OTP {version} at $ROOTDIR $BINDIR\n",
            0o755,
        ),
        (f"{top}/{erts}/bin/erlc", "#!/bin/sh\n", 0o755),
        (f"{top}/{erts}/bin/erl.src", "#!/bin/sh\nROOTDIR=%FINAL_ROOTDIR%\n", 0o644),
        (f"{top}/releases/{major}/OTP_VERSION", f"{version}\n", 0o644),
        (f"{top}/releases/{major}/start_clean.boot", "boot", 0o644),
        (f"{top}/padding", "0" * padding, 0o644),
    )


def tarred(*files: tuple[str, str, int]) -> bytes:
    """A tar archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", compresslevel=1) as archive:
        for name, text, mode in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), mode
            archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


def debian_elixir(root: Path = ROOT) -> bytes:
    """The host's Elixir as a mirror has it: a zip with bin and lib, and no other directory."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in _files(root / DEBIAN_ELIXIR):
            archive.write(file, file.relative_to(root / DEBIAN_ELIXIR))
    return made.getvalue()


def debian_otp(version: str, root: Path = ROOT) -> bytes:
    """The host's OTP as a mirror has it: below one directory, without what `Install` makes.

    It gives itself the version that it is offered as.
    """
    made = io.BytesIO()

    def without(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        below = member.name.partition("/")[2]
        outside = member.issym() and member.linkname.startswith("/")
        made_by_install = below in ("bin/erl", "bin/start.boot", "bin/erlc")
        return None if outside or made_by_install or below.endswith("/OTP_VERSION") else member

    with tarfile.open(fileobj=made, mode="w:gz", compresslevel=1) as archive:
        archive.add(root / DEBIAN_OTP, f"OTP-{version}", filter=without)
        (found,) = (root / DEBIAN_OTP).glob("releases/*/OTP_VERSION")
        member = tarfile.TarInfo(f"OTP-{version}/{found.relative_to(root / DEBIAN_OTP)}")
        member.size = len(version)
        archive.addfile(member, io.BytesIO(version.encode()))
    return made.getvalue()


def _files(directory: Path) -> Iterator[Path]:
    for at, _, names in os.walk(directory):
        for name in names:
            if (Path(at) / name).is_file():
                yield Path(at) / name
