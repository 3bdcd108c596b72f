"""moto's S3 over TLS, for pgBackRest: `python s3_server.py ADDRESS PORT CERTIFICATE KEY FULL`.

The python is that of moto's own environment. The first requests need no signature: they make the
bucket and its user. As long as the file FULL exists, the server has no room, as MinIO says it.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

# they are not there where the tests are checked
moto = importlib.import_module("moto.server")
wsgi = importlib.import_module("cheroot.wsgi")
tls = importlib.import_module("cheroot.ssl.builtin")

ADDRESS, PORT, CERTIFICATE, KEY, FULL = sys.argv[1:]
CODE = b"<Error><Code>XMinioAdminBucketQuotaExceeded</Code><Message>Full</Message></Error>"
application = moto.DomainDispatcherApplication(moto.create_backend_app)


def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """moto's answer, or that of a server that is full.

    It has a length in any case: one that ends with its connection is an error of TLS. So moto's own
    server cannot be used, which closes all connections.
    """
    if environ["REQUEST_METHOD"] == "PUT" and Path(FULL).exists():
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("400 Bad Request", [("Content-Length", str(len(CODE)))])
        return [CODE]
    begun: list[Any] = []
    body = b"".join(application(environ, lambda *given: begun.extend(given[:2])))
    status, headers = begun
    if not any(name.lower() == "content-length" for name, _ in headers):
        headers = [*headers, ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]


server = wsgi.Server((ADDRESS, int(PORT)), answer)
server.ssl_adapter = tls.BuiltinSSLAdapter(CERTIFICATE, KEY)
server.start()
