"""Reads the pickle of a checkpoint without unpickling: opcodes to nodes, of which none can run anything.

Of the pickle machine (pickletools has its definition) only the opcodes are known that torch.save writes (protocol 2).
Containers become lists and dicts, every global becomes a `Global` and every call a `Call`, which are plain records:
nothing is imported, called or hashed except strings and numbers. What the records mean is decided in `reading`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

from hw_asr.checkpoints.errors import FormatError

MAX_BYTES = 64 << 20
MAX_OPCODES = 4_000_000
Key = str | int | float | bool | None


class Global(NamedTuple):
    """A name that the pickle refers to: a class or function in its writer's program."""

    module: str
    name: str


class Call:
    """A call of a global with `args`, and what was done to its result: `state` set, items put into `mapping`."""

    __slots__ = ("args", "function", "mapping", "state")

    def __init__(self, function: Global, args: tuple[object, ...]) -> None:
        self.function, self.args = function, args
        self.state: object = None
        self.mapping: dict[Key, object] = {}


class StorageReference(NamedTuple):
    """The persistent id of a tensor storage."""

    fields: tuple[object, ...]


class _Mark:
    """Where the arguments of an opcode begin on the stack."""


def read_nodes(data: bytes) -> object:
    """Return the nodes of a pickle: str, int, float, bool, None, list, tuple, dict and the classes of this module.

    The result may be nested deeply, share parts and hold itself. Raises FormatError for what torch.save never writes.
    """
    if len(data) > MAX_BYTES:
        raise FormatError(f"its structure takes {len(data)} bytes; expected at most {MAX_BYTES}")
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise FormatError(f"its structure has more than {MAX_OPCODES} parts")
            if opcode.name == "STOP":
                return machine.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise FormatError(f"uses the pickle opcode {opcode.name}, which torch.save does not write")
            step(machine, argument)
    except (ValueError, IndexError, OverflowError, UnicodeError) as error:
        raise FormatError(f"its structure is damaged: {error}") from error
    raise FormatError("its structure is cut short")


class _Machine:
    """Stack and memo."""

    def __init__(self) -> None:
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def push(self, value: object) -> None:
        self._stack.append(value)

    def pop(self) -> object:
        if not self._stack or isinstance(self._stack[-1], _Mark):
            raise FormatError("its structure is damaged: the stack is empty")
        return self._stack.pop()

    def pop_to_mark(self) -> list[object]:
        items: list[object] = []
        while self._stack:
            value = self._stack.pop()
            if isinstance(value, _Mark):
                return items[::-1]
            items.append(value)
        raise FormatError("its structure is damaged: a mark is missing")

    def pop_tuple(self, size: int) -> None:
        items = [self.pop() for _ in range(size)]
        self.push(tuple(items[::-1]))

    def top(self) -> object:
        value = self.pop()
        self.push(value)
        return value

    def put(self, index: int) -> None:
        self._memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self._memo:
            raise FormatError(f"its structure is damaged: no memo {index}")
        self.push(self._memo[index])

    def append(self, items: list[object]) -> None:
        target = self.top()
        if isinstance(target, list):
            target += items
        elif not isinstance(target, Call):  # items of a pickled list subclass are not kept
            raise FormatError("its structure is damaged: items are added to something that is not a list")

    def set_items(self, flat: list[object]) -> None:
        target = self.top()
        mapping = target.mapping if isinstance(target, Call) else target
        if not isinstance(mapping, dict) or len(flat) % 2:
            raise FormatError("its structure is damaged: items are set in something that is not a dict")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if isinstance(key, (str, int, float)) or key is None:
                mapping[key] = value
            elif isinstance(target, dict) and not isinstance(key, (Call, Global)):
                raise FormatError(f"a key is a {type(key).__name__}; expected a string or a number")

    def call(self) -> None:
        args, function = self.pop(), self.pop()
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise FormatError("its structure is damaged: something is called that has no name")
        self.push(Call(function, args))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Call):
            target.state = state
        elif not isinstance(target, dict):
            raise FormatError("its structure is damaged: attributes are set on something that has none")


def _push_global(machine: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.push(Global(module, name))


def _push_persistent(machine: _Machine, argument: object) -> None:
    fields = machine.pop()
    if not isinstance(fields, tuple):
        raise FormatError("its structure is damaged: a storage without description")
    machine.push(StorageReference(fields))


def _no_step(machine: _Machine, argument: object) -> None:
    """PROTO says nothing that matters."""


def _constant(value: object) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.push(value)


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _no_step,
    "MARK": lambda machine, argument: machine.push(_Mark()),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    **{
        name: lambda machine, argument: machine.push(argument)
        for name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES")
    },
    **{name: lambda machine, argument: machine.put(argument) for name in ("BINPUT", "LONG_BINPUT")},
    **{name: lambda machine, argument: machine.get(argument) for name in ("BINGET", "LONG_BINGET")},
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, argument: machine.pop_tuple(1),
    "TUPLE2": lambda machine, argument: machine.pop_tuple(2),
    "TUPLE3": lambda machine, argument: machine.pop_tuple(3),
    "LIST": lambda machine, argument: machine.push(machine.pop_to_mark()),
    "APPEND": lambda machine, argument: machine.append([machine.pop()]),
    "APPENDS": lambda machine, argument: machine.append(machine.pop_to_mark()),
    "SETITEM": lambda machine, argument: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, argument: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": _push_global,
    "REDUCE": lambda machine, argument: machine.call(),
    "NEWOBJ": lambda machine, argument: machine.call(),
    "BUILD": lambda machine, argument: machine.build(),
    "BINPERSID": _push_persistent,
}
