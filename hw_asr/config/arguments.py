"""Checks JSON values against Python signatures and turns them into arguments.

A configuration section is a dataclass, a component is a constructor: both are callables with a signature, so one
mechanism explains unknown keys, missing keys and wrong types for both.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from hw_asr.config.plain_values import check_plain, convert_plain, describe_plain, show
from hw_asr.errors import nearest

T = TypeVar("T")
_EMPTY = inspect.Parameter.empty


def parameters(factory: Callable[..., object]) -> dict[str, tuple[object, bool]]:
    """Map each keyword a factory accepts to (annotation, required); *args and **kwargs are left out."""
    signature = inspect.signature(factory)
    target = factory.__init__ if inspect.isclass(factory) and not dataclasses.is_dataclass(factory) else factory
    try:
        hints = get_type_hints(target)
    except (NameError, TypeError):  # annotations of other packages that cannot be evaluated are not checked
        hints = {}
    return {
        name: (hints.get(name, Any), parameter.default is _EMPTY)
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def check_call(factory: Callable[..., object], args: object, path: str, provided: Collection[str] = ()) -> list[str]:
    """List every fault of calling `factory(**args)`; the program adds the arguments `provided` later."""
    if not isinstance(args, Mapping):
        return [f"{path}: expected an object, got {show(args)}"]
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


def check_value(annotation: object, value: object, path: str) -> list[str]:
    """List the faults of a JSON value against an annotation; annotations without a JSON form accept all."""
    return _kind(annotation).check(annotation, value, path)


def convert(annotation: object, value: object) -> Any:
    """Convert a checked JSON value to the annotated type: dataclasses, tuples and paths."""
    return _kind(annotation).convert(annotation, value)


def describe(annotation: object) -> str:
    """Return a description of the JSON values that an annotation accepts."""
    return _kind(annotation).describe(annotation)


def call(factory: Callable[..., T], args: Mapping[str, object], **provided: object) -> T:
    """Call `factory` with checked JSON arguments, and with those of `provided` that it accepts and `args` lacks."""
    known = parameters(factory)
    keywords = {name: value for name, value in provided.items() if name in known}
    keywords.update({name: convert(known[name][0], value) for name, value in args.items()})
    return factory(**keywords)


class _Kind(NamedTuple):
    """How annotations of one kind are recognised, checked, converted and described."""

    matches: Callable[[object], bool]
    check: Callable[[object, object, str], list[str]]
    convert: Callable[[object, object], object]
    describe: Callable[[object], str]


def _check_union(annotation: object, value: object, path: str) -> list[str]:
    attempts = [check_value(option, value, path) for option in _json_options(annotation)]
    if any(not faults for faults in attempts):
        return []
    deeper = [faults for faults in attempts if not faults[0].startswith(f"{path}: expected")]
    return deeper[0] if deeper else [_expected(annotation, value, path)]


def _convert_union(annotation: object, value: object) -> object:
    option = next((option for option in _json_options(annotation) if not check_value(option, value, "")), object)
    return convert(option, value)


def _json_options(annotation: object) -> list[object]:
    """Return the options of a union that JSON can express: for `float | Tensor` only float. All if there is none."""
    options = list(get_args(annotation))
    return [option for option in options if option is Any or describe(option) != "a value"] or options


def _check_literal(annotation: object, value: object, path: str) -> list[str]:
    options = get_args(annotation)
    return [] if value in options else [f"{path}: unknown value {value!r}{nearest(str(value), map(str, options))}"]


def _item_types(annotation: object, length: int) -> Sequence[object]:
    """Return the annotations of the items of a sequence; a tuple of fixed length has its own number of them."""
    inner = get_args(annotation)
    if _is_fixed_tuple(annotation):
        return inner
    return [(inner or (object,))[0]] * length


def _is_fixed_tuple(annotation: object) -> bool:
    inner = get_args(annotation)
    return get_origin(annotation) is tuple and bool(inner) and inner[-1] is not Ellipsis


def _check_sequence(annotation: object, value: object, path: str) -> list[str]:
    items = _item_types(annotation, len(value)) if isinstance(value, (list, tuple)) else ()
    if not isinstance(value, (list, tuple)) or len(items) != len(value):
        return [_expected(annotation, value, path)]
    pairs = enumerate(zip(items, value, strict=True))
    return [fault for index, (item, part) in pairs for fault in check_value(item, part, f"{path}[{index}]")]


def _convert_sequence(annotation: object, value: object) -> object:
    if not isinstance(value, list):
        return value
    items = [convert(item, part) for item, part in zip(_item_types(annotation, len(value)), value, strict=True)]
    return items if get_origin(annotation) is list or annotation is list else tuple(items)


def _describe_sequence(annotation: object) -> str:
    inner = get_args(annotation)
    if _is_fixed_tuple(annotation):
        return "[" + ", ".join(describe(item) for item in inner) + "]"
    return f"a list of ({describe(inner[0])})" if inner else "a list"


def _check_mapping(annotation: object, value: object, path: str) -> list[str]:
    if not isinstance(value, Mapping):
        return [_expected(annotation, value, path)]
    item = (get_args(annotation) or (object, object))[1]
    return [fault for key, part in value.items() for fault in check_value(item, part, _join(path, key))]


def _check_section(annotation: object, value: object, path: str) -> list[str]:
    assert isinstance(annotation, type), "a dataclass"
    return check_call(annotation, value, path)


def _convert_section(annotation: object, value: object) -> object:
    assert isinstance(annotation, type), "a dataclass"
    return call(annotation, value) if isinstance(value, Mapping) else value


_SEQUENCES, _MAPPINGS = (list, Sequence, tuple), (dict, Mapping)
_KINDS = (
    _Kind(
        lambda annotation: get_origin(annotation) in (Union, types.UnionType),
        _check_union,
        _convert_union,
        lambda annotation: " or ".join(dict.fromkeys(describe(option) for option in _json_options(annotation))),
    ),
    _Kind(
        lambda annotation: get_origin(annotation) is Literal,
        _check_literal,
        lambda annotation, value: value,
        lambda annotation: "one of " + ", ".join(repr(option) for option in get_args(annotation)),
    ),
    _Kind(
        lambda annotation: dataclasses.is_dataclass(annotation) and isinstance(annotation, type),
        _check_section,
        _convert_section,
        lambda annotation: "an object",
    ),
    _Kind(
        lambda annotation: annotation in (list, tuple) or get_origin(annotation) in _SEQUENCES,
        _check_sequence,
        _convert_sequence,
        _describe_sequence,
    ),
    _Kind(
        lambda annotation: annotation in _MAPPINGS or get_origin(annotation) in _MAPPINGS,
        _check_mapping,
        lambda annotation, value: value,
        lambda annotation: "an object",
    ),
    _Kind(
        lambda annotation: True,
        check_plain,
        convert_plain,
        describe_plain,
    ),
)
"""The first kind that matches an annotation applies."""


def _kind(annotation: object) -> _Kind:
    return next(kind for kind in _KINDS if kind.matches(annotation))


def _expected(annotation: object, value: object, path: str) -> str:
    return f"{path}: expected {describe(annotation)}, got {show(value)}"


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
