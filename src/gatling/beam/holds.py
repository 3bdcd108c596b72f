"""A node's resources that no second node may open, as gatling_holds in the node reports them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=1, le=65535)]
File = Annotated[str, Meta(max_length=4096)]
Files = Annotated[list[File], Meta(max_length=50)]
Listener = tuple[Literal["tcp", "udp", "sctp"], Annotated[str, Meta(max_length=100)], Port]


class Holds(Struct):
    """Files that belong to one node, and addresses it listens on."""

    mnesia: File = ""
    """The directory of Mnesia's tables on the disk; empty without any."""
    dets: Files = []
    """DETS files that are open for writing."""
    disk_log: Files = []
    """Files of disk_log that are open for writing."""
    files: Files = []
    """Files with an ending that was requested, which the OS process has open for writing."""
    listeners: Annotated[list[Listener], Meta(max_length=50)] = []
    """Protocol, address and port, except where several sockets may share the port."""
    sockets: Files = []
    """Unix sockets that are listened on."""
