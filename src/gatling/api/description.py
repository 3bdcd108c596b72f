"""The description of the API (OpenAPI 3.1), made from the types of its routes."""

from __future__ import annotations

import functools
import inspect
import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gatling.api.contract import APP, MAX_ID, NAMED, Error
from gatling.api.routes import PREFIX, ROUTES
from gatling.project import template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.api.contract import Route

ERRORS = {
    400: "The body is not JSON.",
    401: "There is no valid token.",
    403: "The token may not do this, or has no access to the app.",
    404: "There is no such app, or nothing of that name or number in it.",
    409: "The app's state does not allow it, or the deployment failed. The live release serves.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "A parameter or a value cannot be accepted.",
    429: "Too many requests. Retry-After has the seconds to wait.",
    500: "An error that Gatling did not foresee.",
    503: "The host, or a part of it, does not do what it was asked.",
}
TEXT = """\
The operations of the command line over HTTP. A token is sent as `Authorization: Bearer TOKEN`;
`gatling tokens add` creates one. Errors have the codes of `--json` on the command line.
"""
_REF = "#/components/schemas/{name}"


@functools.cache
def document() -> dict[str, Any]:
    """The whole description."""
    types = [kind for route in ROUTES for kind in (route.result, route.body) if kind is not None]
    schemas, components = msgspec.json.schema_components([*types, Error], ref_template=_REF)
    found = dict(zip(map(_key, [*types, Error]), schemas, strict=True))
    _describe(components, list(_structs([*types, Error])))
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route, found)
    whole = {
        "openapi": "3.1.0",
        "info": {"title": "Gatling", "version": "1", "description": TEXT},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    template.to_ecma(whole)
    return whole


def encoded() -> bytes:
    """The same as JSON."""
    return msgspec.json.encode(document())


def parameters(route: Route) -> list[dict[str, Any]]:
    """The parameters of a route, in its path and its query."""
    listed: list[dict[str, Any]] = []
    if route.of_app:
        said = "The name of the app."
        schema: dict[str, Any] = {"type": "string", "pattern": APP}
        listed.append({"name": "app", "in": "path", "required": True, "schema": schema,
                       "description": said})  # fmt: skip
    if "{id}" in route.path:
        schema = {"type": "integer", "minimum": 1, "maximum": MAX_ID}
        listed.append({"name": "id", "in": "path", "required": True, "schema": schema,
                       "description": "The number of the deployment."})  # fmt: skip
    for name, (said, schema) in NAMED.items():
        if f"{{{name}}}" in route.path:
            listed.append({"name": name, "in": "path", "required": True, "schema": schema,
                           "description": said})  # fmt: skip
    (_,), components = msgspec.json.schema_components([route.query], ref_template=_REF)
    texts = template.docs_of(route.query)
    for name, given in components[route.query.__name__]["properties"].items():
        listed.append({"name": name, "in": "query", "required": False, "schema": given,
                       "description": texts[name]})  # fmt: skip
    return listed


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    statuses = [401, 403, 422, 429, 500, 503]
    if "{" in route.path:
        statuses.append(404)
    if route.kind == "work":
        statuses.append(409)
    if route.body is not None:
        statuses += [400, 413, 415]
    problem = {"application/json": {"schema": schemas[_key(Error)]}}
    made: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": {
            "200": _success(route, schemas),
            **{
                str(status): {"description": ERRORS[status], "content": problem}
                for status in sorted(statuses)
            },
        },
    }
    if route.body is not None:
        content = {"application/json": {"schema": schemas[_key(route.body)]}}
        made["requestBody"] = {"required": route.body_required, "content": content}
    return made


def _success(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if route.kind == "text":
        return {"description": "The text.",
                "content": {"text/plain": {"schema": {"type": "string"}}}}  # fmt: skip
    if route.kind == "description":
        return {"description": "This document.",
                "content": {"application/json": {"schema": {"type": "object"}}}}  # fmt: skip
    schema = schemas[_key(route.result)]
    if route.kind == "events":
        return {
            "description": "A stream of the events deployment.started, deployment.updated and"
            " deployment.ended. The data of each is a DeploymentEvent.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    return {"description": "Done.", "content": {"application/json": {"schema": schema}}}


def _key(kind: object) -> str:
    return repr(kind)


def _structs(kinds: list[Any]) -> Iterator[type[Struct]]:
    """All models that these types are made of."""
    waiting, seen = list(kinds), set()
    while waiting:
        kind = waiting.pop()
        waiting += getattr(kind, "__args__", ())
        if not (inspect.isclass(kind) and issubclass(kind, Struct)) or kind in seen:
            continue
        seen.add(kind)
        yield kind
        waiting += [field.type for field in msgspec.structs.fields(kind)]


def _describe(components: dict[str, Any], models: list[type[Struct]]) -> None:
    """Put the texts below the fields of the models into their schemas."""
    for model in models:
        schema = components.get(model.__name__) or components.get(
            f"{model.__module__}.{model.__name__}", {}
        )
        if "description" in schema:
            schema["description"] = _in_json(schema["description"])
        texts: dict[str, str] = {}
        for each in reversed(model.__mro__):
            if issubclass(each, Struct) and each is not Struct:
                texts |= template.docs_of(each)
        for name, given in schema.get("properties", {}).items():
            if name in texts:
                given.setdefault("description", _in_json(texts[name]))


def _in_json(text: str) -> str:
    """A text about a value of Python, for readers of JSON."""
    first, _, rest = text.partition(" ")
    return re.sub(r"\bNone\b", "null", f"`true` if {rest}" if first == "Whether" else text)
