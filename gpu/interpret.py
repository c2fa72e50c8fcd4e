"""Run the kernels' own source on a CPU, by Triton's interpreter.

Triton decides whether a kernel is compiled or interpreted when the decorator runs, from the
environment. Here the plain Python function is taken back out of the decorated kernel, whichever it
became, and wrapped again, so a normal process can do both. What the interpreter patches in
`triton.language` it puts back when a call ends; while one runs, no other thread of the process may
compile a kernel, and calls are made one at a time.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from algo.code import LiftCode
from algo.packing import Words
from gpu.tables import check_bitmm, check_decode, code_tables

# Large enough that numpy's work outweighs the interpreter's, small enough for the cache.
DECODE_BLOCK = 1 << 16

_one_at_a_time = threading.Lock()


Run = Callable[[Any], Any]  # a kernel to what is launched for it


def as_is(kernel: Any) -> Any:
    """The `Run` of a GPU."""
    return kernel


@contextmanager
def interpreter(checked: bool) -> Iterator[Run]:
    """What turns decorated Triton functions into a form that runs on CPU tensors.

    Args:
        checked: turn integer overflow in ``+``, ``-`` and ``*`` into an error; several
            times slower.
    """
    # the first launch imports it; it must not see what is patched
    import triton.experimental.gluon  # noqa: F401
    import triton.language as tl
    from triton.runtime.interpreter import (
        InterpretedFunction,
        InterpreterOptions,
        _patch_lang,
        interpreter_builder,
    )
    from triton.runtime.jit import KernelInterface

    class Helper(InterpretedFunction):  # type: ignore[misc]
        """Called by a kernel; takes back what it patches, which Triton's own leaves in place."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            patches = _patch_lang(self.fn)
            try:
                return self.rewrite()(*args, **kwargs)
            finally:
                patches.restore()

    made: dict[FunctionType, Helper] = {}

    def copied(decorated: Any) -> Any:
        # the interpreter adds its own names to a function's globals: let them be a copy, in which
        # the functions that it calls are interpreted, too
        source = decorated.fn
        if source not in made:
            names = dict(source.__globals__)
            for name in source.__code__.co_names:
                if isinstance(names.get(name), KernelInterface):
                    names[name] = copied(names[name])
            function = FunctionType(source.__code__, names, source.__name__, source.__defaults__)
            function.__annotations__ = dict(source.__annotations__)
            function.__module__ = source.__module__
            made[source] = Helper(function)
        return made[source]

    with _one_at_a_time, ExitStack() as restored:
        restored.callback(setattr, interpreter_builder, "options", interpreter_builder.options)
        interpreter_builder.options = InterpreterOptions(debug=checked, sanitize_overflow=checked)
        for module in (tl, tl.standard):  # sum, max and their like are kernels' helpers, too
            for name, value in list(vars(module).items()):
                if isinstance(value, KernelInterface):
                    restored.callback(setattr, module, name, value)
                    setattr(module, name, copied(value))
        try:
            yield copied
        finally:
            for function in made.values():
                InterpretedFunction.rewritten_fn.pop(function.fn, None)


@contextmanager
def interpreted(kernel: Any, checked: bool) -> Iterator[Any]:
    """One kernel by `interpreter`."""
    with interpreter(checked) as run:
        yield run(kernel)


def interpreted_decode(
    words: Words,
    code: LiftCode,
    groups: int,
    *,
    half: bool = False,
    checked: bool = False,
    block: int = DECODE_BLOCK,
) -> npt.NDArray[Any]:
    """Decode by the decode kernel under the interpreter.

    Args:
        words: uint32 ``(streams, ceil((G*D + V)/32) + 1)``, from `algo.packing.extend_words`.
        code: the code.
        groups: G, groups per stream.
        half: float16 instead of int16.
        checked: fail on integer overflow.
        block: groups per program, a power of two.

    Returns:
        int16 (or float16) ``(streams, G*d)``.

    Raises:
        LiftError: the words do not fit the code.
    """
    from gpu.decode import decode_kernel, launch

    tensor, tables = _tensor(words), code_tables(code)
    dtype = torch.float16 if half else torch.int16
    check_decode(tensor, tables, groups, dtype)
    block = min(block, 1 << (len(words) * groups - 1).bit_length())
    with interpreted(decode_kernel, checked) as kernel:
        out = launch(kernel, tensor, tables, groups, dtype, block)
    return np.asarray(out.numpy())


def interpreted_bitmm(
    words: Words, digits: npt.NDArray[np.int8], *, checked: bool = False
) -> npt.NDArray[np.int32]:
    """The one-bit product by its kernel under the interpreter.

    Args:
        words: uint32 ``(R, ceil(K/32))``.
        digits: int8 ``(K, N)``.
        checked: fail on integer overflow outside of the matrix products.

    Returns:
        int32 ``(R, N)``.

    Raises:
        LiftError: the shapes do not fit, or K is over the bound.
    """
    from gpu.bitmm import launch
    from gpu.tiles import Tile

    tensor, wide = _tensor(words), torch.from_numpy(np.array(digits))
    rows, columns = check_bitmm(tensor, wide)
    tile = Tile(rows=_tile(rows, 256), columns=_tile(columns, 64), inner=256, warps=4, stages=1)
    with interpreter(checked) as run:
        out = launch(run, tensor, wide, tile)
    return np.asarray(out.numpy())


def _tensor(words: Words) -> torch.Tensor:
    return torch.from_numpy(np.array(words))  # a copy: torch warns of arrays it may not write


def _tile(extent: int, most: int) -> int:
    return min(most, 1 << (extent - 1).bit_length())
