"""What gatling.toml looks like, told by the model itself: a commented file, and a JSON Schema."""

from __future__ import annotations

import ast
import inspect
import json
from typing import Any

import msgspec

from gatling.project.settings import HOST_ONLY, Settings, describe

HEAD = """\
# How Gatling treats this app. Every line is optional; what stands here is the default.
# What an operator sets on the host by `gatling settings set` wins over it.
"""


def commented() -> str:
    """A gatling.toml with all keys, commented out."""
    parts = [HEAD]
    for section, fields in sections().items():
        parts.append(f"\n# [{section}]\n")
        for name, (default, meaning) in fields.items():
            parts.append(f"# {meaning}\n# {name} = {_toml(default)}\n")
    return "".join(parts)


def sections() -> dict[str, dict[str, tuple[Any, str]]]:
    """By section, the keys that gatling.toml may have: default and meaning."""
    found: dict[str, dict[str, tuple[Any, str]]] = {}
    for key, default in describe(Settings()).items():
        section, _, name = key.partition(".")
        if key not in HOST_ONLY:
            found.setdefault(section, {})[name] = (default, meaning(key))
    return found


def meaning(key: str) -> str:
    """What a setting means: the text below it in the model."""
    section, _, name = key.partition(".")
    return _docs(type(getattr(Settings(), section)))[name]


def choices(key: str) -> list[str]:
    """What a setting may be, where that is a choice of words."""
    section, _, name = key.partition(".")
    properties = msgspec.json.schema(Settings)["$defs"].get(section.capitalize(), {})
    found: list[str] = properties.get("properties", {}).get(name, {}).get("enum", [])
    return found


def schema() -> dict[str, Any]:
    """The JSON Schema of gatling.toml, for editors."""
    made: dict[str, Any] = msgspec.json.schema(Settings)
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "gatling.toml"
    for section, fields in sections().items():
        properties = made["$defs"][section.capitalize()]["properties"]
        for name in list(properties):
            if name not in fields:
                del properties[name]  # the host's to say
                continue
            properties[name]["description"] = fields[name][1]
            if "pattern" in properties[name]:  # \\Z is Python's; ECMA 262 has $ for it
                properties[name]["pattern"] = properties[name]["pattern"].replace(r"\Z", "$")
    for section in made["$defs"]["Settings"]["properties"].values():
        section.pop("default", None)
    texts = {"type": "array", "items": {"type": "string"}}
    for section, name in (("Hot", "deny"), ("Proxy", "headers")):
        properties = made["$defs"][section]["properties"]
        text = properties[name]
        properties[name] = {"description": text.pop("description"), "anyOf": [text, texts]}
    return made


def _toml(value: object) -> str:
    # texts, numbers and booleans of JSON are TOML's as well
    return json.dumps(value)


def _docs(model: type) -> dict[str, str]:
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
