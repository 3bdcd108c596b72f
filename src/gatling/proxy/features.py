"""The features of an nginx, as its build and version decide them."""

from __future__ import annotations

import re
from typing import NamedTuple

HTTP2_DIRECTIVE = (1, 25, 1)
"""The first version with the directive `http2` (nginx.org, ngx_http_v2_module)."""
HTTP3 = (1, 25, 0)
"""The first version whose releases have HTTP/3 (nginx.org, ngx_http_v3_module)."""


class Features(NamedTuple):
    """The features of an nginx."""

    tls: bool
    http2: bool
    http2_directive: bool
    """nginx has `http2 on;` in place of a parameter of `listen`."""
    http3: bool


def read(text: str) -> Features:
    """The features of an nginx, from its answer to `nginx -V`."""
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", text)
    version = tuple(map(int, found.groups())) if found else ()
    return Features(
        tls="--with-http_ssl_module" in text,
        http2="--with-http_v2_module" in text,
        http2_directive=version >= HTTP2_DIRECTIVE,
        http3="--with-http_v3_module" in text and version >= HTTP3,
    )
