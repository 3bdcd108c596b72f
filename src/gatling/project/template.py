"""A commented gatling.toml and its JSON Schema, both generated from the model."""

from __future__ import annotations

import ast
import inspect
import json
from typing import Any

import msgspec

from gatling.project import durations
from gatling.project.settings import HOST_ONLY, NAMED, Settings, choices, describe

HEAD = """\
# Settings of this app for Gatling. Every line is optional. The values shown are the defaults.
# Settings made on the host with `gatling settings set` override this file.
"""


EXAMPLES = {
    "processes": ("worker", {"command": "eval Shop.Worker.run()"}),
    "schedule": ("cleanup", {"cron": "30 3 * * *", "command": "eval Shop.Cleanup.run()"}),
}
"""Examples for the sections whose tables have names that the project chooses."""


def commented() -> str:
    """A gatling.toml with all keys, commented out."""
    parts = [HEAD]
    for section, fields in sections().items():
        parts.append(f"\n# {about(section)}\n# [{section}]\n")
        for name, (default, said) in fields.items():
            parts.append(f"# {said}\n# {name} = {written(default)}\n")
    for section, (name, values) in EXAMPLES.items():
        parts.append(f"\n# {about(section)}\n# [{section}.{name}]\n")
        for key, default in msgspec.to_builtins(NAMED[section]()).items():
            said = meaning(f"{section}.NAME.{key}")
            parts.append(f"# {said}\n# {key} = {written(values.get(key, default))}\n")
    return "".join(parts)


def sections() -> dict[str, dict[str, tuple[Any, str]]]:
    """The keys of gatling.toml by section, each with its default and meaning."""
    found: dict[str, dict[str, tuple[Any, str]]] = {}
    for key, default in describe(Settings()).items():
        section, _, name = key.partition(".")
        if key not in HOST_ONLY:
            found.setdefault(section, {})[name] = (default, meaning(key))
    return found


def meaning(key: str) -> str:
    """The meaning of a setting: the text below it in the model, and the words that it accepts."""
    section, *_, name = key.split(".")
    said = docs_of(NAMED.get(section) or type(getattr(Settings(), section)))[name]
    words = choices(key)
    return f"{said} One of: {', '.join(words)}." if words else said


def about(section: str) -> str:
    """The meaning of a section: the docstring of its model."""
    model = NAMED.get(section) or type(getattr(Settings(), section))
    return inspect.getdoc(model) or ""


def written(value: object) -> str:
    """A value as it is written in gatling.toml: `true`, `1800`, `0.02`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)  # strings, numbers and booleans of JSON are valid TOML


def schema() -> dict[str, Any]:
    """The JSON Schema of gatling.toml, for editors."""
    made: dict[str, Any] = msgspec.json.schema(Settings)
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "gatling.toml"
    for section, fields in sections().items():
        properties = made["$defs"][section.capitalize()]["properties"]
        for name in list(properties):
            if name not in fields:
                del properties[name]
                continue
            properties[name]["description"] = fields[name][1]
    for section, model in NAMED.items():
        for name, field in made["$defs"][model.__name__]["properties"].items():
            field["description"] = meaning(f"{section}.NAME.{name}")
    for properties in made["$defs"]["Settings"]["properties"].values():
        properties.pop("default", None)
    made["$defs"]["Process"]["required"] = ["command"]
    made["$defs"]["Job"]["required"] = ["cron", "command"]
    # `worker = "…"` is its command
    processes = made["$defs"]["Settings"]["properties"]["processes"]
    short = dict(made["$defs"]["Process"]["properties"]["command"])
    short.pop("default", None)
    processes["additionalProperties"] = {"anyOf": [short, processes["additionalProperties"]]}
    for section, name in (("Hot", "deny"), ("Proxy", "headers")):
        properties = made["$defs"][section]["properties"]
        text = properties[name]
        # each part must match what the whole text must match
        part = {key: value for key, value in text.items() if key in ("type", "pattern")}
        texts = {"type": "array", "items": part}
        properties[name] = {"description": text.pop("description"), "anyOf": [text, texts]}
    for key in durations.SETTINGS:
        section, _, name = key.partition(".")
        properties = made["$defs"][section.capitalize()]["properties"]
        number, unit = properties[name], {"type": "string", "pattern": durations.PATTERN}
        properties[name] = {"description": number.pop("description"), "anyOf": [number, unit]}
    to_ecma(made)
    return made


def to_ecma(schema: Any) -> None:
    r"""Convert patterns to ECMA 262, which has no \Z."""
    for value in schema if isinstance(schema, list) else schema.values():
        if isinstance(value, (dict, list)):
            to_ecma(value)
    if isinstance(schema, dict) and isinstance(schema.get("pattern"), str):
        schema["pattern"] = schema["pattern"].replace(r"\Z", "$")


def docs_of(model: type) -> dict[str, str]:
    """The texts below the fields of a model, by field."""
    (tree,) = ast.parse(inspect.getsource(model)).body
    found = {}
    if isinstance(tree, ast.ClassDef):
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found
