"""An S3 server for tests: moto, in an environment of its own, which is made once."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.proxy.authority import certificate
from tests.server.host import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("moto[server]==5.2.5", "boto3>=1.40,<2", "cheroot>=11,<12")
SETUP = """
import boto3, json, sys
host, port, ca, bucket = sys.argv[1:]
common = {"endpoint_url": f"https://{host}:{port}", "verify": ca, "region_name": "us-east-1",
          "aws_access_key_id": "first", "aws_secret_access_key": "first"}
boto3.client("s3", **common).create_bucket(Bucket=bucket)
iam = boto3.client("iam", **common)
iam.create_user(UserName="gatling")
allow = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
iam.put_user_policy(UserName="gatling", PolicyName="all",
                    PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
key = iam.create_access_key(UserName="gatling")["AccessKey"]
print(json.dumps([key["AccessKeyId"], key["SecretAccessKey"]]))
"""
LISTENS = "import socket, sys; exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))))"
UNSIGNED = 4
"""The requests of `SETUP`: afterwards each needs the signature of a user."""


class S3:
    """A server with one bucket and one user."""

    bucket = "backups"

    def __init__(self, place: Path, host: str, port: int) -> None:
        self.place, self.host, self.port = place, host, port
        self.ca_file, self.full = place / "ca.pem", place / "full"
        self.key = self.secret = ""

    @property
    def words(self) -> list[str]:
        """The options of `gatling db repository`, without the secrets."""
        return ["--endpoint", f"{self.host}:{self.port}", "--region", "us-east-1", "--path-style",
                "--ca-file", str(self.ca_file)]  # fmt: skip

    def secrets(self, **other: str) -> str:
        """Their lines."""
        found = {"key": self.key, "key-secret": self.secret} | other
        return "".join(f"{name}={value}\n" for name, value in found.items())


@contextlib.contextmanager
def running(
    place: Path, host: str = "localhost", address: str = "127.0.0.1", enter: tuple[str, ...] = ()
) -> Iterator[S3]:
    """Run a server; skips the test where moto cannot be installed.

    `enter` are the words with which a program runs in another network, that of `address`.
    """
    python = _python()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        s3 = S3(place, host, free.getsockname()[1])
    ca = certificate(name="S3's authority", authority=True)
    issued = certificate(host, address, by=ca)
    s3.ca_file.write_text(ca.pem)
    (place / "s3.pem").write_text(issued.pem)
    (place / "s3.key").write_text(issued.key_pem)
    argv = [*enter, python, str(Path(__file__).with_name("s3_server.py")), address, str(s3.port),
            str(place / "s3.pem"), str(place / "s3.key"), str(s3.full)]  # fmt: skip
    env = {"PATH": os.environ["PATH"], "INITIAL_NO_AUTH_ACTION_COUNT": str(UNSIGNED),
           "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}  # fmt: skip
    with (place / "s3.log").open("w") as log:
        server = subprocess.Popen(argv, env=env, stdout=log, stderr=log, cwd=place)
    try:
        listening = [*enter, python, "-c", LISTENS, address, str(s3.port)]
        until(lambda: subprocess.run(listening, check=False).returncode == 0
              or server.poll() is not None, "the S3 server")  # fmt: skip
        setup = subprocess.run(
            [*enter, python, "-c", SETUP, address, str(s3.port), str(s3.ca_file), s3.bucket],
            check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        s3.key, s3.secret = json.loads(setup.stdout)
        yield s3
    finally:
        server.kill()
        server.wait()


def _python() -> str:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatling" / "moto"
    python = root / "env/bin/python"
    with locked(root / "lock"):
        if not (root / "done").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip",
                            str(root / "env")], check=True)  # fmt: skip
            # to compile all of its modules takes 12 s of CPU, and few of them are loaded
            done = subprocess.run([sys.executable, "-m", "pip", f"--python={python}", "install",
                                   "-q", "--no-compile", *PACKAGES],
                                  check=False, timeout=600)  # fmt: skip
            if done.returncode != 0:
                pytest.skip("moto, which is the S3 server of this test, cannot be installed")
            (root / "done").touch()
    return str(python)
