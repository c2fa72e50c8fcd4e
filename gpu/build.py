"""Compile every kernel for a list of GPUs, without a GPU, and report what it costs.

Triton's own compiler and assembler do the work, as they would at run time; no driver is asked.
The figures come from the machine code, not from a run: compiled, not run on a GPU.
"""

import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from algo.errors import LiftError
from gpu.job import KernelJob

# target: Triton's backend, its name for the architecture, threads per warp
TARGETS: dict[str, tuple[str, int | str, int]] = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "gfx942": ("hip", "gfx942", 64),
}

NOTE = "compiled, not run on a GPU"


@dataclass(frozen=True)
class KernelReport:
    """One kernel for one target.

    Attributes:
        kernel: ``decode-int16``, ``decode-float16``, ``bitmm-16`` or ``bitmm-32`` (columns).
        code: name of the code, or ``any`` where the machine code does not depend on it.
        target: a key of `TARGETS`.
        registers: vector registers per thread (on AMD, with the accumulation registers).
        scalar_registers: scalar registers per wave on AMD, 0 on NVIDIA.
        spills: registers spilled on AMD; bytes of stack and local memory per thread on NVIDIA.
        shared_bytes: shared memory per program.
        code_bytes: machine code.
        warps: warps per program.
        note: always `NOTE`.
    """

    kernel: str
    code: str
    target: str
    registers: int
    scalar_registers: int
    spills: int
    shared_bytes: int
    code_bytes: int
    warps: int
    note: str = NOTE


class _Costs(NamedTuple):
    registers: int
    scalar_registers: int
    spills: int


def build(targets: Sequence[str] = tuple(TARGETS)) -> list[KernelReport]:
    """Compile all kernels for `targets`, in the order given.

    Nothing is left behind: Triton's cache goes to a temporary directory for the duration.

    Raises:
        LiftError: a target is unknown, or no targets are given.
    """
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        problem = f"unknown target {unknown[0]!r}" if unknown else "no target given"
        raise LiftError(f"{problem}; known targets are {', '.join(TARGETS)}")
    return [compile_one(job, target) for target in targets for job in all_jobs()]


def all_jobs() -> list[KernelJob]:
    """Every kernel in every configuration that is launched."""
    from gpu import bitmm, decode

    return [*decode.jobs(), *bitmm.jobs()]


def compile_one(job: KernelJob, target: str) -> KernelReport:
    """Compile one kernel and read its costs out of the result."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    # under TRITON_INTERPRET=1 the decorator made something else of the same function
    function = JITFunction(job.function.fn)
    names = function.arg_names
    source = ASTSource(
        function,
        {name: job.signature.get(name, "constexpr") for name in names},
        job.constants,
        {(names.index(name),): [["tt.divisibility", 16]] for name in job.aligned},
    )
    with tempfile.TemporaryDirectory() as scratch, triton.knobs.cache.scope():
        triton.knobs.cache.dir = scratch
        # no floating point here to fuse; Triton warns where that is left open
        options = {**job.options, "enable_fp_fusion": False}
        compiled = triton.compile(source, target=GPUTarget(*TARGETS[target]), options=options)
        if TARGETS[target][0] == "cuda":
            binary = compiled.asm["cubin"]
            costs = _nvidia_costs(binary, Path(scratch) / "kernel.cubin")
        else:
            binary = compiled.asm["hsaco"]
            costs = _amd_costs(compiled.asm["amdgcn"])
        return KernelReport(
            kernel=job.kernel,
            code=job.code,
            target=target,
            registers=costs.registers,
            scalar_registers=costs.scalar_registers,
            spills=costs.spills,
            # asked for at launch, so not a figure of the binary itself
            shared_bytes=compiled.metadata.shared,
            code_bytes=text_bytes(binary),
            warps=compiled.metadata.num_warps,
        )


def _nvidia_costs(cubin: bytes, path: Path) -> _Costs:
    import triton

    path.write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    text = subprocess.run(
        [tool, "-res-usage", path], check=True, capture_output=True, text=True
    ).stdout
    return _Costs(
        registers=_number(r"\bREG:(\d+)", text),
        scalar_registers=0,
        spills=_number(r"\bSTACK:(\d+)", text) + _number(r"\bLOCAL:(\d+)", text),
    )


def _amd_costs(assembly: str) -> _Costs:
    return _Costs(
        registers=_number(r"\.vgpr_count:\s*(\d+)", assembly),
        scalar_registers=_number(r"\.sgpr_count:\s*(\d+)", assembly),
        spills=_number(r"\.vgpr_spill_count:\s*(\d+)", assembly)
        + _number(r"\.sgpr_spill_count:\s*(\d+)", assembly),
    )


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    if match is None:
        raise LiftError(f"the compiler's report holds no {pattern!r}; this Triton is not supported")
    return int(match[1])


def text_bytes(elf: bytes) -> int:
    """Bytes of machine code in a 64-bit little-endian ELF file: the sections named ``.text*``.

    Raises:
        LiftError: it is no such file.
    """
    if elf[:6] != b"\x7fELF\x02\x01":
        raise LiftError("the compiler's output is not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", elf, table + size * i) for i in range(count)]
    names = sections[names_index][4]
    return sum(length for name, _, _, _, _, length in sections if _is_text(elf, names + name))


def _is_text(elf: bytes, at: int) -> bool:
    return elf[at : at + 5] == b".text"
