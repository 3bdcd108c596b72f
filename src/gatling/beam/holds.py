"""What a node has open that no second node may open, as gatling_holds in the node tells it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=1, le=65535)]


class Holds(Struct):
    """Files that belong to one node, and addresses it listens on."""

    mnesia: str = ""
    """The directory of Mnesia's tables on the disk; empty without any."""
    dets: list[str] = []
    """DETS files that are open for writing."""
    disk_log: list[str] = []
    """Files of disk_log that are open for writing."""
    files: list[str] = []
    """Everything that the OS process has open for writing, the former included."""
    listeners: list[tuple[Literal["tcp", "udp", "sctp"], str, Port]] = []
    """Protocol, address and port, except where several sockets may share the port."""
    sockets: list[str] = []
    """Unix sockets that are listened on."""
