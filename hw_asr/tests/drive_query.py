"""The part of Google Drive's query language that the emulator understands: =, !=, in, and, or, parentheses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Predicate = Callable[[Mapping[str, Any]], bool]
_TOKEN = re.compile(r"\s*('(?:\\.|[^'\\])*'|!=|=|\(|\)|\w+)")


def parse(query: str) -> Predicate:
    """Return a test of an item's description; ValueError when the query is malformed."""
    tokens = _tokens(query)
    predicate = _either(tokens)
    if tokens:
        raise ValueError(f"left over: {tokens}")
    return predicate


def _tokens(query: str) -> list[str]:
    tokens, position = [], 0
    query = query.rstrip()
    while position < len(query):
        match = _TOKEN.match(query, position)
        if match is None:
            raise ValueError(f"cannot read {query[position:]!r}")
        tokens.append(match.group(1))
        position = match.end()
    return tokens


def _either(tokens: list[str]) -> Predicate:
    options = [_all(tokens)]
    while tokens and tokens[0] == "or":
        tokens.pop(0)
        options.append(_all(tokens))
    return lambda item: any(option(item) for option in options)


def _all(tokens: list[str]) -> Predicate:
    parts = [_term(tokens)]
    while tokens and tokens[0] == "and":
        tokens.pop(0)
        parts.append(_term(tokens))
    return lambda item: all(part(item) for part in parts)


def _term(tokens: list[str]) -> Predicate:
    first = tokens.pop(0)
    if first == "(":
        inner = _either(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise ValueError("a parenthesis is not closed")
        return inner
    operator, second = tokens.pop(0), tokens.pop(0)
    if operator == "in" and second == "parents":
        parent = _value(first)
        return lambda item: parent in [each["id"] for each in item["parents"]]
    if first not in ("title", "mimeType", "trashed") or operator not in ("=", "!="):
        raise ValueError(f"cannot compare {first} {operator} {second}")
    value = _value(second)
    return lambda item: (_folded(item[first]) == _folded(value)) == (operator == "=")


def _folded(value: str | bool) -> str | bool:
    """Drive may ignore the case of titles; mimeType has none."""
    return value.casefold() if isinstance(value, str) else value


def _value(token: str) -> str | bool:
    if token in ("true", "false"):
        return token == "true"
    if not token.startswith("'"):
        raise ValueError(f"expected a string, got {token}")
    return re.sub(r"\\(.)", r"\1", token[1:-1])
