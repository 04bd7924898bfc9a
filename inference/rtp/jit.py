"""How kernels are compiled.

numba notices a change of the file a kernel is in, not of the files it takes constants from: after editing
:mod:`inference.rtp.layout`, touch the kernels too (or delete their ``__pycache__``).
"""

from collections.abc import Callable
from types import FunctionType
from typing import TypeVar, cast

import numpy as np

try:
    import numba
except ImportError:
    HAS_NUMBA = False
else:
    HAS_NUMBA = True

Function = TypeVar("Function", bound=Callable[..., object])


def jit(function: Function) -> Function:
    """Compile without the GIL, cached on disk where a place can be written, else for this process only."""
    if not HAS_NUMBA:
        function.__dict__["py_func"] = function  # as numba has it, and as plain() looks for it
        return function
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # numba found no folder to cache in: read-only install and no home
        return cast(Function, numba.njit(nogil=True)(function))


ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)
ZERO = np.uint64(0)


def plain(function: Function, **instead: Callable[..., object]) -> Function:
    """The kernel as Python itself runs it, and the kernels it calls likewise, or ``instead`` of them others by name."""
    source = getattr(function, "py_func", function)
    names = {
        name: instead.get(name) or plain(value, **instead)
        for name, value in source.__globals__.items()
        if name in source.__code__.co_names and (hasattr(value, "py_func") or name in instead)
    }
    return cast(Function, FunctionType(source.__code__, {**source.__globals__, **names}))
