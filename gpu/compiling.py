"""Compile one kernel for one GPU, without a GPU, and read its costs out of the machine code.

Triton's own compiler and assembler do the work, as they would at run time; no driver is asked.
"""

import re
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from algo.errors import LiftError
from gpu import machine_code
from gpu.control_flow import Code, parse_amdgcn, parse_sass
from gpu.gpus import gpu_for
from gpu.job import KernelJob
from gpu.machine_code import Steady

# target: Triton's backend, its name for the architecture, threads per warp
TARGETS: dict[str, tuple[str, int | str, int]] = {
    "sm_80": ("cuda", 80, 32),
    "sm_89": ("cuda", 89, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}

NOTE = "compiled, not run on a GPU"


@dataclass(frozen=True)
class KernelReport:
    """One kernel for one target.

    Attributes:
        kernel: name of kernel and configuration, as `KernelJob.kernel`.
        code: name of the code, or ``any`` where the machine code does not depend on it.
        target: a key of `TARGETS`.
        registers: vector registers per thread (on AMD, with the accumulation registers).
        scalar_registers: scalar registers per wave on AMD, 0 on NVIDIA.
        spills: registers spilled on AMD; bytes of stack and local memory per thread on NVIDIA.
        shared_bytes: shared memory per program.
        code_bytes: machine code.
        warps: warps per program.
        loop: what follows is of one loop; else of the whole body.
        loops: loops in the kernel, nested ones too.
        nested: loops inside the one counted that do more than wait.
        instructions: of a warp in one trip, by class (`gpu.opcodes.CLASSES`).
        unknown: opcodes counted under ``other``.
        issued: instructions that take issue slots (`gpu.machine_code.Counts`).
        unit: what a trip gets through: bit, weight or value; None where the job does not say.
        units: how many of them the program gets through in that trip; None, as what follows from
            it, also where nobody says how often the nested loops turn.
        seen_in: what showed it (`gpu.machine_code.Trip`).
        per_unit: lane-instructions per unit.
        batch_one: this is what is launched for a single token.
        hbm_share: of bits at batch 1: time to issue the loop over time to read its bits from
            memory, on the GPU and at the clock that `gpu.gpus` lists for the target. The same at
            every bit-width, as both grow with the bits.
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
    loop: bool
    loops: int
    nested: int
    instructions: dict[str, int]
    unknown: tuple[str, ...]
    issued: int
    unit: str | None
    units: int | None
    seen_in: str | None
    per_unit: float | None
    batch_one: bool
    hbm_share: float | None
    note: str = NOTE

    def per_weight(self, bits: float) -> float | None:
        """Lane-instructions per weight of `bits` bits; None where the unit is neither."""
        if self.per_unit is None or self.unit == "value":
            return None
        return self.per_unit * (bits if self.unit == "bit" else 1)


class Costs(NamedTuple):
    """Registers and spills, as in `KernelReport`."""

    registers: int
    scalar_registers: int
    spills: int


class Compiled(NamedTuple):
    """A kernel's machine code.

    Attributes:
        binary: the ELF file that would be loaded.
        assembly: its disassembly on NVIDIA, the assembler's input on AMD.
        costs: registers and spills.
        shared_bytes: shared memory asked for at launch, so not a figure of the binary itself.
        warps: warps per program.
    """

    binary: bytes
    assembly: str
    costs: Costs
    shared_bytes: int
    warps: int


def compile_one(job: KernelJob, target: str) -> KernelReport:
    """Compile one kernel and read its costs out of the result.

    Raises:
        LiftError: it does not compile, or the machine code contradicts what the job says.
    """
    compiled = machine_code_of(job, target)
    stores = job.work is not None and job.work.stored_bytes > 0
    steady = machine_code.steady_loop(parse(compiled.assembly, target), stores)
    return KernelReport(
        kernel=job.kernel,
        code=job.code,
        target=target,
        registers=compiled.costs.registers,
        scalar_registers=compiled.costs.scalar_registers,
        spills=compiled.costs.spills,
        shared_bytes=compiled.shared_bytes,
        code_bytes=text_bytes(compiled.binary),
        warps=compiled.warps,
        **_loop_figures(job, target, steady, compiled.warps),
    )


def _loop_figures(job: KernelJob, target: str, steady: Steady, warps: int) -> dict[str, Any]:
    work, warp_lanes = job.work, TARGETS[target][2]
    counts = machine_code.count(steady, work.nested_trips or 1 if work else 1)
    done, per_unit, share = None, None, None
    # loops inside that turn nobody knows how often leave nothing to divide
    if work is not None and (not steady.nested or work.nested_trips):
        try:
            done = machine_code.trip(steady, work, warps, warp_lanes)
        except LiftError as error:
            raise LiftError(f"{job.kernel} ({job.code}) for {target}: {error}") from None
        per_unit = machine_code.lane_instructions(counts, done, warps, warp_lanes)
        gpu = gpu_for(target)
        if gpu is not None and job.batch_one and work.unit == "bit":
            share = gpu.issue_share(per_unit, 1 / 8)
    return {
        "loop": steady.loop,
        "loops": steady.loops,
        "nested": steady.nested,
        "instructions": counts.classes,
        "unknown": counts.unknown,
        "issued": counts.issued,
        "unit": work.unit if work else None,
        "units": done.units if done else None,
        "seen_in": done.seen_in if done else None,
        "per_unit": per_unit,
        "batch_one": job.batch_one,
        "hbm_share": share,
    }


def parse(assembly: str, target: str) -> Code:
    """Instructions of `Compiled.assembly`."""
    return (parse_sass if TARGETS[target][0] == "cuda" else parse_amdgcn)(assembly)


def machine_code_of(job: KernelJob, target: str) -> Compiled:
    """Compile one kernel. Triton's cache goes to a temporary directory, nothing is left behind.

    Raises:
        LiftError: it does not compile.
    """
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
        # results compared with == may use no fused multiply-add; Triton warns where it is open
        options = {**job.options, "enable_fp_fusion": False}
        try:
            compiled = triton.compile(source, target=GPUTarget(*TARGETS[target]), options=options)
        except (RuntimeError, triton.TritonError) as error:
            raise LiftError(
                f"{job.kernel} ({job.code}) does not compile for {target}: {error}"
            ) from error
        if TARGETS[target][0] == "cuda":
            binary = compiled.asm["cubin"]
            path = Path(scratch) / "kernel.cubin"
            path.write_bytes(binary)
            assembly = _run("nvdisasm", "-c", path)
            costs = _nvidia_costs(_run("cuobjdump", "-res-usage", path))
        else:
            binary, assembly = compiled.asm["hsaco"], compiled.asm["amdgcn"]
            costs = _amd_costs(assembly)
        metadata = compiled.metadata
        return Compiled(binary, assembly, costs, metadata.shared, metadata.num_warps)


def versions() -> dict[str, str]:
    """Versions of what makes and reads the machine code."""
    import triton

    return {
        "triton": triton.__version__,
        **{name: _version(_run(name, "--version")) for name in ("ptxas-blackwell", "nvdisasm")},
    }


def _version(text: str) -> str:
    match = re.search(r"\bV(\d+\.\d+\.\d+)", text)
    if match is None:
        raise LiftError(f"no version in {text!r}; this Triton is not supported")
    return match[1]


def _run(tool: str, *arguments: str | Path) -> str:
    """Standard output of one of the tools in Triton's wheel."""
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    return subprocess.run([path, *arguments], check=True, capture_output=True, text=True).stdout


def _nvidia_costs(usage: str) -> Costs:
    return Costs(
        registers=_number(r"\bREG:(\d+)", usage),
        scalar_registers=0,
        spills=_number(r"\bSTACK:(\d+)", usage) + _number(r"\bLOCAL:(\d+)", usage),
    )


def _amd_costs(assembly: str) -> Costs:
    return Costs(
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
