"""The description of the API, and requests that are made from it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from gatling.api import description
from gatling.api.routes import ROUTES
from tests.api.served import MALFORMED, UNLIMITED, forked, new_home, server
from tests.scale import LONG, scaled

if TYPE_CHECKING:
    from collections.abc import Iterator


def schemas(value: Any) -> Iterator[dict[str, Any]]:
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, (dict, list)):
            yield from schemas(inner)
    if isinstance(value, dict):
        yield value


def test_every_route_is_described() -> None:
    paths = description.document()["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == {(route.method, f"/v1{route.path}") for route in ROUTES}


def test_every_field_has_a_name_and_every_reference_a_schema() -> None:
    document = description.document()
    known = document["components"]["schemas"]
    for one in schemas(document):
        if "$ref" in one:
            assert one["$ref"].removeprefix("#/components/schemas/") in known
    for schema in known.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    memory = known["AppDetails"]["properties"]["memory"]
    assert memory["description"].startswith("Bytes that the instance has in memory")


def repeated() -> list[str]:
    """Routes that take exactly what an earlier one takes, and so refuse the same requests."""
    seen, found = set(), []
    for route in ROUTES:
        takes = (route.kind == "work", repr(route.query), repr(route.body),
                 *re.findall(r"{\w+}", route.path))  # fmt: skip
        if takes in seen:
            found.append(route.name)
        seen.add(takes)
    return found


@pytest.mark.timeout(900)
def test_requests_made_from_the_description(tmp_path: Any) -> None:
    """schemathesis: valid and invalid requests, and what they are answered by, per the document.

    A hundred of them change something. A process that has to load its modules takes 0.3 s for that.
    """
    before = f"{UNLIMITED}\n{forked()}"
    with new_home() as home, server(home, free_address(), before, MALFORMED) as place:
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run",
                f"http://{place}/v1/openapi.json",
                "--header", f"Authorization: Bearer {home.token('ann', 'admin')}",
                "--checks", "all", "--exclude-path", "/v1/events", "--seed", "1",
                "--max-examples", str(scaled(2, 40)), "--no-color", "--request-timeout", "60",
                "--phases", "coverage,fuzzing,stateful" if LONG else "coverage,fuzzing",
                # what is well formed may still contradict the state of the app
                "--exclude-checks", "positive_data_acceptance",
                # each request of start would start supervisor and nginx
                *(f"--exclude-operation-id={name}"
                  for name in sorted({"start"} if LONG else {"start", *repeated()})),
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"
