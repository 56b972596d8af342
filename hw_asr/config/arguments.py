"""Checks JSON values against Python signatures and turns them into arguments.

A configuration section is a dataclass, a component is a constructor: both are callables with a signature, so one
mechanism explains unknown keys, missing keys and wrong types for both.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_EMPTY = inspect.Parameter.empty
_JSON_NAMES = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
    type(None): "null",
    Path: "a path",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'? known: a, b" for a name that is not known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6) or [
        candidate for candidate in known if candidate.lower() == name.lower()
    ]
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known: {', '.join(known) or 'none'}"


def parameters(factory: Callable[..., Any]) -> dict[str, tuple[Any, bool]]:
    """Map each keyword a factory accepts to (annotation, required); *args and **kwargs are left out."""
    signature = inspect.signature(factory)
    target = factory.__init__ if inspect.isclass(factory) and not dataclasses.is_dataclass(factory) else factory
    try:
        hints = get_type_hints(target)
    except (NameError, TypeError):  # annotations of a third party that cannot be evaluated are not checked
        hints = {}
    return {
        name: (hints.get(name, Any), parameter.default is _EMPTY)
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def check_call(factory: Callable[..., Any], args: Any, path: str, provided: Collection[str] = ()) -> list[str]:
    """List every fault of calling `factory(**args)`; `provided` names are supplied later by the program."""
    if not isinstance(args, Mapping):
        return [f"{path}: expected an object, got {_show(args)}"]
    known = parameters(factory)
    faults = [
        f"{_join(path, key)}: unknown key{nearest(str(key), set(known) - set(provided))}"
        for key in args
        if key not in known
    ]
    faults += [
        f"{_join(path, name)}: missing; expected {describe(annotation)}"
        for name, (annotation, required) in known.items()
        if required and name not in args and name not in provided
    ]
    for name, (annotation, _) in known.items():
        if name in args:
            faults += check_value(annotation, args[name], _join(path, name))
    return faults


def check_value(annotation: Any, value: Any, path: str) -> list[str]:
    """List the faults of a JSON value against an annotation; annotations without a JSON form accept all."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        attempts = [check_value(option, value, path) for option in inner]
        if any(not faults for faults in attempts):
            return []
        deeper = [faults for faults in attempts if not faults[0].startswith(f"{path}: expected")]
        return deeper[0] if deeper else [_expected(annotation, value, path)]
    if origin is Literal:
        if value in inner:
            return []
        return [f"{path}: unknown value {value!r}{nearest(str(value), map(str, inner))}"]
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return check_call(annotation, value, path)
    if origin in (list, Sequence, tuple) or annotation in (list, tuple):
        return _check_sequence(annotation, value, path)
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        if not isinstance(value, Mapping):
            return [_expected(annotation, value, path)]
        item = inner[1] if inner else Any
        return [fault for key, each in value.items() for fault in check_value(item, each, _join(path, key))]
    return [] if _is_instance(annotation, value) else [_expected(annotation, value, path)]


def convert(annotation: Any, value: Any) -> Any:
    """Turn a checked JSON value into what the annotation asks for: dataclasses, tuples and paths."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        option = next((each for each in inner if not check_value(each, value, "")), Any)
        return convert(option, value)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type) and isinstance(value, Mapping):
        return call(annotation, value)
    if annotation is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, list) and (origin in (list, Sequence, tuple) or annotation is tuple):
        items = (
            inner if origin is tuple and inner and inner[-1] is not Ellipsis else [(inner or (Any,))[0]] * len(value)
        )
        converted = [convert(item, each) for item, each in zip(items, value, strict=True)]
        return converted if origin is list else tuple(converted)
    return value


def call(factory: Callable[..., Any], args: Mapping[str, Any], **provided: Any) -> Any:
    """Call `factory` with checked JSON arguments; of `provided` it gets what its signature names and args lack."""
    known = parameters(factory)
    keywords = {name: value for name, value in provided.items() if name in known}
    keywords.update({name: convert(known[name][0], value) for name, value in args.items()})
    return factory(**keywords)


def describe(annotation: Any) -> str:
    """Say in words which JSON value an annotation stands for."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(option) for option in inner))
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in inner)
    if origin in (list, Sequence) or (origin is tuple and inner and inner[-1] is Ellipsis):
        return f"a list of ({describe(inner[0])})" if inner else "a list"
    if origin is tuple:
        return "[" + ", ".join(describe(item) for item in inner) + "]"
    if origin in (dict, Mapping) or annotation in (dict, Mapping) or dataclasses.is_dataclass(annotation):
        return "an object"
    return _JSON_NAMES.get(annotation, "a value")


def _check_sequence(annotation: Any, value: Any, path: str) -> list[str]:
    inner = get_args(annotation)
    if not isinstance(value, (list, tuple)):
        return [_expected(annotation, value, path)]
    if get_origin(annotation) is tuple and inner and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            return [_expected(annotation, value, path)]
        items: Iterable[Any] = inner
    else:
        items = [(inner or (Any,))[0]] * len(value)
    return [
        fault
        for index, (item, each) in enumerate(zip(items, value, strict=True))
        for fault in check_value(item, each, f"{path}[{index}]")
    ]


def _is_instance(annotation: Any, value: Any) -> bool:
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is Path:
        return isinstance(value, (str, Path))
    if annotation in (None, type(None)):
        return value is None
    if annotation in (str, bool):
        return isinstance(value, annotation)
    return True


def _expected(annotation: Any, value: Any, path: str) -> str:
    return f"{path}: expected {describe(annotation)}, got {_show(value)}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
