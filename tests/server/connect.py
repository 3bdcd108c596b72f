"""ssh's ProxyCommand: connects, and hands the connection to ssh (ProxyUseFdpass).

Run by a Python in the bed's network namespace, while ssh itself is in the host's:
`connect.py ADDRESS PORT`.
"""

import socket
import sys

with (
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 30) as made,
    socket.socket(fileno=1) as ssh,
):
    made.settimeout(None)
    socket.send_fds(ssh, [b"x"], [made.fileno()])
