"""What gatling.toml looks like, told by the model itself: a commented file, and a JSON Schema."""

from __future__ import annotations

import ast
import inspect
import json
from typing import Any

import msgspec

from gatling.project.settings import HOST_ONLY, NAMED, Settings, describe

HEAD = """\
# How Gatling treats this app. Every line is optional; what stands here is the default.
# What an operator sets on the host by `gatling settings set` wins over it.
"""


EXAMPLES = {
    "processes": ("worker", {"command": "eval Shop.Worker.run()"}),
    "schedule": ("cleanup", {"cron": "30 3 * * *", "command": "eval Shop.Cleanup.run()"}),
}
"""Of the sections whose tables have names of the project's own, none of which is there by default.
"""


def commented() -> str:
    """A gatling.toml with all keys, commented out."""
    parts = [HEAD]
    for section, fields in sections().items():
        parts.append(f"\n# [{section}]\n")
        for name, (default, said) in fields.items():
            parts.append(f"# {said}\n# {name} = {_toml(default)}\n")
    for section, (name, values) in EXAMPLES.items():
        parts.append(f"\n# [{section}.{name}]\n")
        for key, default in msgspec.to_builtins(NAMED[section]()).items():
            said = meaning(f"{section}.NAME.{key}")
            parts.append(f"# {said}\n# {key} = {_toml(values.get(key, default))}\n")
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
    section, *_, name = key.split(".")
    return _docs(NAMED.get(section) or type(getattr(Settings(), section)))[name]


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
        # of each part what is true of the whole
        part = {key: value for key, value in text.items() if key in ("type", "pattern")}
        texts = {"type": "array", "items": part}
        properties[name] = {"description": text.pop("description"), "anyOf": [text, texts]}
    _to_ecma(made)
    return made


def _to_ecma(schema: Any) -> None:
    r"""Write patterns as ECMA 262 has them: \Z is Python's."""
    for value in schema if isinstance(schema, list) else schema.values():
        if isinstance(value, (dict, list)):
            _to_ecma(value)
    if isinstance(schema, dict) and isinstance(schema.get("pattern"), str):
        schema["pattern"] = schema["pattern"].replace(r"\Z", "$")


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
