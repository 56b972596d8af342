"""Numba kernels: compiled from their annotations, once per machine, without the GIL."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from hw_asr.runtime.private_files import is_trusted, private_directory, user_cache_dir

Int8Matrix = Annotated[NDArray[np.int8], 2]
Int8Vector = Annotated[NDArray[np.int8], 1]
Int32Cube = Annotated[NDArray[np.int32], 3]
Int32Matrix = Annotated[NDArray[np.int32], 2]
Int32Vector = Annotated[NDArray[np.int32], 1]
Int64Matrix = Annotated[NDArray[np.int64], 2]
Int64Vector = Annotated[NDArray[np.int64], 1]
UInt8Vector = Annotated[NDArray[np.uint8], 1]
UInt64Vector = Annotated[NDArray[np.uint64], 1]
Float32Vector = Annotated[NDArray[np.float32], 1]
Float64Cube = Annotated[NDArray[np.float64], 3]
Float64Matrix = Annotated[NDArray[np.float64], 2]
Float64Vector = Annotated[NDArray[np.float64], 1]
"""C-contiguous arrays as kernels take them; the number is that of the dimensions."""

PACKAGE = Path(__file__).parents[1]
KERNEL_FOLDERS = ("runtime", "decoders", "lm")
"""Where kernels live, below `PACKAGE`."""
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def kernel(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a function for the types in its annotations, release the GIL in it and keep the machine code on disk.

    Annotations: int (64 bits), float (64 bits), bool, the array types of this module, named tuples whose fields are
    annotated so, and tuples of them. Kernels neither allocate arrays nor count references to them, which would cost
    more than the work on a few numbers. Without numba they run as Python code. Modules that use this decorator import
    numba (0.3 s): import them inside the constructor that needs them.
    """
    return _compiled(function, inner=False)


def inner_kernel(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Compile a function that only other kernels call; it is inlined. See `kernel`."""
    return _compiled(function, inner=True)


def _compiled(function: Callable[Parameters, Result], inner: bool) -> Callable[Parameters, Result]:
    try:
        numba = importlib.import_module("numba")
    except (ImportError, OSError):  # enough for argmax and its word times; the beam searches ask for numba
        return function
    types = {name: numba_type(hint) for name, hint in get_type_hints(function, include_extras=True).items()}
    result = types.pop("return")
    compiled: Callable[Parameters, Result] = numba.njit(
        result(*types.values()),
        nogil=True,
        cache=_keep_machine_code(),
        error_model="numpy",
        no_cfunc_wrapper=True,
        no_cpython_wrapper=inner,
        forceinline=inner,
        _nrt=False,
    )(function)
    return compiled


def numba_type(hint: Any) -> Any:
    """Return the Numba type of an annotation."""
    types = importlib.import_module("numba.types")
    scalars = {int: types.int64, float: types.float64, bool: types.boolean, type(None): types.void}
    if hint in scalars:
        return scalars[hint]
    if get_origin(hint) is Annotated:
        array, num_dimensions = get_args(hint)
        (dtype,) = get_args(get_args(array)[1])
        return types.Array(importlib.import_module("numba").from_dtype(np.dtype(dtype)), num_dimensions, "C")
    if get_origin(hint) is tuple:
        return types.BaseTuple.from_types([numba_type(field) for field in get_args(hint)])
    fields = get_type_hints(hint, include_extras=True)
    return types.BaseTuple.from_types([numba_type(fields[name]) for name in hint._fields], hint)


@lru_cache
def _keep_machine_code() -> bool:
    """Tell Numba where to keep machine code; return whether there is such a place."""
    config = importlib.import_module("numba").config
    config.CACHE_DIR = str(_cache_dir(config.CACHE_DIR) or "")
    return bool(config.CACHE_DIR)


def _cache_dir(given: str = "") -> Path | None:
    """Return a directory below the `given` one, beside the source or else the user's, another for every version.

    None when none is given and neither of the others is safe.
    Numba compares the file of the outermost kernel only: it would reuse inner kernels that have changed since. What it
    reads from there is machine code: a directory in which others can write is not used.
    """
    if given:
        return Path(given) / f"kernels-{_digest()}"
    beside = private_directory(PACKAGE / "__pycache__") if is_trusted(PACKAGE) else None
    directory = beside or user_cache_dir()
    return None if directory is None else private_directory(directory / f"kernels-{_digest()}")


def _digest() -> str:
    """Return a digest of the sources that kernels are made of."""
    content = hashlib.sha256()
    for path in sorted(path for folder in KERNEL_FOLDERS for path in (PACKAGE / folder).glob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()[:16]
