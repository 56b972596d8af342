"""The JSON Schema of a config for editors, from the dataclasses and registries; see config_reference.py."""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hw_asr.config import registry
from hw_asr.config import schema as config
from hw_asr.config.arguments import parameters
from hw_asr.config.registry import Registry
from hw_asr.experiment import components
from hw_asr.experiment.optimizer_groups import OptimizerGroup
from scripts.config_meanings import MEANINGS, NOT_IN_CONFIGS, attribute_docstrings, split_docstring

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "config.schema.json"
Schema = dict[str, Any]

PLAIN: dict[Any, str] = {
    int: "integer", float: "number", str: "string", bool: "boolean", Path: "string", None: "null", type(None): "null",
}  # fmt: skip
# The registry of each key that holds a spec, or a list of specs.
REGISTRIES: dict[str, Registry[Any]] = {
    "arch": registry.MODELS,
    "optimizer": registry.OPTIMIZERS,
    "lr_scheduler": registry.SCHEDULERS,
    "text_encoder": registry.TEXT_ENCODERS,
    "loss": registry.LOSSES,
    "metrics": registry.METRICS,
    "decoders": registry.DECODERS,
    "preprocessing.spectrogram": registry.SPECTROGRAMS,
    "augmentations.wave": registry.WAVE_AUGMENTATIONS,
    "augmentations.spectrogram": registry.SPECTROGRAM_AUGMENTATIONS,
    "data.SPLIT.datasets": registry.DATASETS,
    "data.SPLIT.batch_sampler": registry.SAMPLERS,
    "trainer.external_storage": registry.STORAGES,
}


def text() -> str:
    """Return the content of the file."""
    return json.dumps(config_schema(), indent=1, ensure_ascii=False) + "\n"


def config_schema() -> Schema:
    """Return the schema of a config and of an overlay; a file with an optimizer is a config to train from."""
    root = section(config._Sections, "")
    required = [name for name in root.pop("required") if name != "optimizer"]
    properties = {"$schema": {"type": "string"}, **root["properties"]}
    properties["data"] = {
        "type": "object",
        "description": without_links(MEANINGS["data"]),
        "properties": {"root_dir": {"type": "string", "default": "data"}},
        "additionalProperties": {"$ref": "#/definitions/split"},
    }
    for name, dataclass in (
        ("preprocessing", config.Preprocessing),
        ("augmentations", config.Augmentations),
        ("trainer", config.TrainerConfig),
    ):
        properties[name] = section(dataclass, f"{name}.")
    transfer = properties["trainer"]["properties"]["transfer"]
    transfer.update(section(config.Transfer, "trainer.transfer."))
    definitions = {definition(kind): spec(kind) for kind in REGISTRIES.values()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Config of hw_asr",
        **root,
        "properties": properties,
        "dependencies": {"optimizer": required},
        "definitions": {"split": section(config.Split, "data.SPLIT."), **definitions},
    }


def section(dataclass: type, prefix: str) -> Schema:
    """Return the schema of a section whose keys have the path `prefix`."""
    hints, described = get_type_hints(dataclass), attribute_docstrings(dataclass)
    properties: dict[str, Schema] = {}
    required = []
    for field in dataclasses.fields(dataclass):
        path = prefix + field.name
        kind = REGISTRIES.get(path)
        value = specs(kind, str(field.type)) if kind else value_schema(hints[field.name])
        properties[field.name] = {**value, "description": without_links(described.get(field.name) or MEANINGS[path])}
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(field.name)
        elif not dataclasses.is_dataclass(field.default) and field.default is not dataclasses.MISSING:
            properties[field.name]["default"] = plain(field.default)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def specs(kind: Registry[Any], annotation: str) -> Schema:
    """Return the schema of a key that holds a spec of `kind`, a list of them, or perhaps null."""
    one: Schema = {"$ref": f"#/definitions/{definition(kind)}"}
    value: Schema = {"type": "array", "items": one} if annotation.startswith("list") else one
    if kind is registry.DATASETS:
        value["minItems"] = 1
    options = [value, {"type": "null"}] if annotation.endswith("None") else [value]
    return {"anyOf": options}  # a description beside "$ref" itself would be ignored


def definition(kind: Registry[Any]) -> str:
    """Return the name of the definition of a kind's specs."""
    return kind.kind.replace(" ", "_")


def spec(kind: Registry[Any]) -> Schema:
    """Return the schema of a spec: registered names have their arguments checked, other modules' names do not."""
    names = kind.registered()
    cases = [
        {
            "if": {"properties": {"type": {"const": name}}, "required": ["type"], "not": {"required": ["module"]}},
            "then": arguments(kind, name),
        }
        for name in names
    ]
    known: Schema = {"enum": names}
    if kind.library is not None:  # its names depend on its version; those that are registered are suggested
        known = {"anyOf": [{"enum": names}, {"type": "string"}]} if names else {"type": "string"}
    groups = {"groups": value_schema(list[OptimizerGroup])} if kind is registry.OPTIMIZERS else {}
    keys = {"type": {"type": "string"}, "args": {"type": "object"}, "module": {"type": "string"}, **groups}
    return {
        "type": "object",
        "properties": keys,
        "required": ["type"],
        "additionalProperties": False,
        "if": {"not": {"required": ["module"]}},
        "then": {"properties": {"type": known}},
        **({"allOf": cases} if cases else {}),
    }


def arguments(kind: Registry[Any], name: str) -> Schema:
    """Return what the schema of a spec requires when its type is `name`."""
    factory = kind.find({"type": name})
    meaning, described = split_docstring(factory)
    provided = components.PROVIDED.get(kind.kind, ())
    properties, required = {}, []
    for argument, (annotation, needed) in parameters(factory).items():
        if argument in NOT_IN_CONFIGS:
            continue
        properties[argument] = value_schema(annotation)
        if argument in described:
            properties[argument]["description"] = described[argument]
        if needed and argument not in provided:
            required.append(argument)
    args = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    result: Schema = {"description": " ".join(meaning.split("\n\n")[0].split()), "properties": {"args": args}}
    return {**result, "required": ["args"]} if required else result


def value_schema(annotation: Any) -> Schema:
    """Return the schema of the JSON values that an annotation accepts; {} for one without a JSON form."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in PLAIN:
        return {"type": PLAIN[annotation]}
    if origin in (Union, types.UnionType):
        options = [value_schema(option) for option in inner]
        if {} in options:
            return {}
        if all(option.keys() == {"type"} for option in options):
            return {"type": [option["type"] for option in options]}
        return {"anyOf": options}
    if origin is Literal:
        return {"enum": list(inner)}
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        properties = {name: value_schema(hint) for name, (hint, _) in parameters(annotation).items()}
        required = [name for name, (_, needed) in parameters(annotation).items() if needed]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    if origin is tuple and inner[-1] is not Ellipsis:
        items = [value_schema(item) for item in inner]
        return {"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)}
    if annotation in (list, tuple) or origin in (list, tuple, Sequence):
        return {"type": "array", "items": value_schema(inner[0])} if inner else {"type": "array"}
    if annotation in (dict, Mapping) or origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": value_schema(inner[1])} if inner else {"type": "object"}
    return {}


def without_links(markdown: str) -> str:
    """Return a text in which Markdown links are replaced by their words."""
    return re.sub(r"\[(.*?)\]\(.*?\)", r"\1", markdown)


def plain(value: Any) -> Any:
    """Return a default as JSON has it."""
    return value.as_posix() if isinstance(value, Path) else value
