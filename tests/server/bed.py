"""The boxes of one test process."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING

from tests.server import image as images
from tests.server import network, remains
from tests.server.box import Box
from tests.server.host import ensure_host_packages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.server.image import Image


class Bed:
    """A network of its own with boxes, all of which are gone when the process is.

    Beds of other processes (the workers of pytest-xdist, another run) are not disturbed: all names
    that are the host's begin with the name of the bed.
    """

    def __init__(self) -> None:
        ensure_host_packages()
        remains.sweep()
        self.name = f"gt{os.getpid()}"
        self.directory = remains.beds() / self.name
        self.lan = network.Lan(self.name)
        self.boxes: list[Box] = []
        self._guard = threading.RLock()
        with remains.beds_locked():
            self.directory.mkdir(parents=True)
            self._alive = (self.directory / "lock").open("w")
            fcntl.flock(self._alive, fcntl.LOCK_EX)
            self.lan.up()
        atexit.register(self.close)

    def box(
        self, name: str | None = None, image: Image | None = None, *, gives_layer: bool = False
    ) -> Box:
        """A new box, not booted yet (`up`). It is the clean image if no other is given."""
        image = image or images.clean_image()
        with self._guard:
            taken = {box.number for box in self.boxes}
            number = next(n for n in range(1, network.LAST) if n not in taken)
            box = Box(self, name or f"box{number}", number, image, gives_layer=gives_layer)
            if any(other.name == box.name for other in self.boxes):
                raise ValueError(f"there is a box {box.name}")
            self.boxes.append(box)
        box.create()
        self.write_hosts()
        return box

    def layered_image(
        self, kind: str, key: str, install: Callable[[Box], object], base: Image | None = None
    ) -> Image:
        """An image after `install` was carried out in a box of it: the clean one, or `base`.

        It is kept under `kind` and `key`: the same ones give the same image, also to other workers
        and to later runs, and `install` is not called then.
        """
        below = base or images.clean_image()
        made: list[Box] = []

        def build() -> Path:
            box = self.box("install", below, gives_layer=True)
            made.append(box)
            box.up()
            install(box)
            box.stop()
            return box.give_layer()

        try:
            return images.layered_image(kind, key, below, build)
        finally:
            for box in made:
                box.destroy()

    def forget(self, box: Box) -> None:
        """A box was destroyed."""
        with self._guard:
            self.boxes.remove(box)
        self.write_hosts()

    def close(self) -> None:
        """Destroy everything. A second time it does nothing."""
        atexit.unregister(self.close)
        if self._alive.closed:
            return
        for box in list(self.boxes):
            with contextlib.suppress(Exception):  # what is left is removed with the bed
                box.destroy()
        with remains.beds_locked():
            remains.remove_bed(self.directory)
            self._alive.close()

    @property
    def ssh_config(self) -> Path:
        """A configuration by which `ssh -F` reaches the boxes by name, from their network."""
        return self.directory / "ssh_config"

    def write_hosts(self) -> None:
        """Boxes know each other by name, and ssh knows all of them."""
        with self._guard:
            known = [(box.name, box.ip) for box in self.boxes]
            lines = [f"Host {name}\n  HostName {ip}\n" for name, ip in known]
            lines.append(
                "Host *\n"
                "  IdentitiesOnly yes\n  BatchMode yes\n  ControlMaster no\n"
                "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
                # the default one costs 60 ms of CPU for each connection
                "  KexAlgorithms curve25519-sha256\n"
                "  ConnectTimeout 60\n  ServerAliveInterval 15\n"
            )
            new = self.directory / "ssh_config.new"
            new.write_text("".join(lines))
            new.rename(self.ssh_config)
            hosts = "".join(f"{ip} {name}\n" for name, ip in known)
            for box in self.boxes:
                file = box.root / "etc/hosts"
                with contextlib.suppress(FileNotFoundError):  # it is being made or removed
                    file.write_text(f"127.0.0.1 localhost\n::1 localhost\n{hosts}")
