"""What each machine instruction is: its class, and how much it multiplies, loads or stores.

NVIDIA's names are those of the tables in "CUDA Binary Utilities" (instruction set reference);
AMD's follow from their prefixes (CDNA 3 instruction set architecture).
"""

import re
from collections.abc import Iterable

CLASSES = (
    "tensor", "alu", "float", "double", "convert", "global", "shared", "atomic", "control",
    "uniform", "special", "other",
)  # fmt: skip

_NVIDIA = {
    "tensor": "HMMA IMMA BMMA DMMA QMMA OMMA HGMMA IGMMA BGMMA QGMMA UTCHMMA UTCIMMA UTCQMMA "
    "UTCOMMA UTCMXQMMA",
    "alu": "BMSK BREV FLO IABS IADD IADD2 IADD3 IADD32I ICMP IDP IDP4A IMAD IMNMX IMUL IMUL32I "
    "ISCADD ISCADD32I ISETP LEA LOP LOP3 LOP32I MOV MOV32I P2R PLOP3 POPC PSETP R2P SEL SGXT SHF "
    "SHL SHR VABSDIFF VABSDIFF4 VIADD VIADDMNMX VIMNMX VIMNMX3 BFE BFI",
    "float": "FADD FADD2 FADD32I FCHK FFMA FFMA2 FFMA32I FMNMX FMNMX3 FMUL FMUL2 FMUL32I FSEL FSET "
    "FSETP FSWZADD MUFU HADD2 HADD2_32I HFMA2 HFMA2_32I HMNMX2 HMUL2 HMUL2_32I HSET2 HSETP2 VHMNMX "
    "FHADD FHFMA",
    "double": "DADD DFMA DMNMX DMUL DSETP",
    "convert": "F2F F2FP F2I F2IP FRND I2F I2FP I2I I2IP MOVM PRMT REDUX CREDUX SHFL",
    # local memory is where registers spill to: off the chip as well
    "global": "LD LDG LDGSTS LDL ST STG STL CCTL CCTLL CCTLT UBLKCP UBLKPF UBLKRED UTMACCTL "
    "UTMACMDFLUSH UTMALDG UTMALST UTMAPF UTMAREDG UTMASTG",
    "shared": "LDS LDSM STS STSM LDTM STTM UTCCP UTCSHIFT UTCSTSWS UTCLDSWS",
    "atomic": "ATOM ATOMG ATOMS RED REDG REDAS UTCATOMSWS",
    "control": "ACQBULK ACQSHMINIT ARRIVES B2R BAR BMOV BPT BRA BREAK BRX BRXU BSSY BSYNC CALL "
    "CGAERRBAR DEPBAR ELECT ENDCOLLECTIVE ERRBAR EXIT FENCE JMP JMX JMXU KILL LDGDEPBAR LDGMC "
    "MATCH MEMBAR NANOSLEEP NOP PMTRIG PREEXIT RET RPCMOV SYNCS UCGABAR_ARV UCGABAR_WAIT UTCBAR "
    "VOTE WARPGROUP WARPGROUPSET WARPSYNC YIELD",
    "uniform": "LDCU R2UR REDUX32 S2UR UGETNEXTWORKID UMEMSETS UMOV UPREF UREDGR USETMAXREG USTGR "
    "UVIRTCOUNT VOTEU",
    "special": "CS2R GETLMEMBASE LDC LEPC QSPC S2R SETCTAID SETLMEMBASE SETMAXREG TEX TLD TLD4 TXD "
    "TXQ TMML SULD SUST SURED SUATOM",
}
_NVIDIA_CLASS = {name: kind for kind, names in _NVIDIA.items() for name in names.split()}

_AMD_CONTROL = re.compile(
    r"s_(waitcnt|barrier|branch|cbranch|endpgm|nop|sleep|sched|setprio|trap|sethalt|icache|dcache|"
    r"setpc|swappc|getpc|sendmsg|inst_prefetch)"
)
_AMD_CONVERT = re.compile(
    r"v_(cvt|perm|readlane|readfirstlane|writelane|mov_b32_dpp|bpermute|pk_cvt|alignb)"
)

_MMA_SHAPES = {  # digits of M, N and K without signs between them
    "884": 256, "8816": 1024, "8832": 2048, "88128": 8192, "1684": 512, "1688": 1024,
    "16816": 2048, "16832": 4096, "16864": 8192, "168128": 16384, "168256": 32768,
}  # fmt: skip
_WARPGROUP = 4  # warps that run one wgmma together
_AMD_BYTES = {
    "byte": 1, "ubyte": 1, "sbyte": 1, "short": 2, "ushort": 2, "sshort": 2, "dword": 4,
    "dwordx2": 8, "dwordx3": 12, "dwordx4": 16, "b8": 1, "b16": 2, "b32": 4, "b64": 8, "b96": 12,
    "b128": 16,
}  # fmt: skip


def classify(opcode: str) -> str:
    """The class of an instruction, one of `CLASSES`; ``other`` where its name is not known."""
    return _amd_class(opcode) if opcode[:1].islower() else _nvidia_class(opcode)


def _nvidia_class(opcode: str) -> str:
    name = opcode.partition(".")[0]
    found = _NVIDIA_CLASS.get(name)
    if found is None and name.startswith("U") and name[1:] in _NVIDIA_CLASS:
        return "uniform"  # the same operation once for the warp
    return found or "other"


def _amd_class(opcode: str) -> str:  # noqa: PLR0911 - one line for each kind
    if opcode.startswith(("v_mfma", "v_smfmac", "v_wmma", "v_dot")):
        return "tensor" if not opcode.startswith("v_dot") else "alu"
    if opcode.startswith(("global_", "flat_", "buffer_", "scratch_")):
        if "inv" in opcode or "wb" in opcode:
            return "control"  # fences are made of cache maintenance
        return "atomic" if "atomic" in opcode else "global"
    if opcode.startswith("ds_"):
        if "permute" in opcode or "swizzle" in opcode:
            return "convert"
        return "shared" if opcode.startswith(("ds_read", "ds_write")) else "atomic"
    if opcode.startswith("s_"):
        return "control" if _AMD_CONTROL.match(opcode) else "uniform"
    if not opcode.startswith("v_"):
        return "other"
    if _AMD_CONVERT.match(opcode) or opcode.endswith("_dpp"):
        return "convert"
    if "_f64" in opcode:
        return "double"
    return "float" if re.search(r"_(f32|f16|bf16)", opcode) else "alu"


def multiply_accumulates(opcode: str) -> int | None:
    """What one warp's share of a tensor instruction multiplies; None where its name hides it.

    On sm_100 the shape is in a descriptor and one instruction serves the program.
    """
    if opcode[:1].islower():
        shape = re.search(r"_(\d+)x(\d+)x(\d+)(?:_(\d+)b)?", opcode)
        return _product(shape.groups(default="1")) if shape else None
    shape = re.search(r"\.(\d+)x(\d+)x(\d+)", opcode)
    if shape:
        return _product(shape.groups()) // _WARPGROUP
    digits = re.search(r"\.(\d+)", opcode)
    return _MMA_SHAPES.get(digits[1]) if digits else None


def _product(factors: Iterable[str]) -> int:
    result = 1
    for factor in factors:
        result *= int(factor)
    return result


def stored_bytes(opcode: str) -> int:
    """Bytes a lane writes to global memory, 0 where the instruction does something else."""
    if opcode[:1].islower():
        return _amd_bytes(opcode, "store")
    return _nvidia_bytes(opcode) if opcode.partition(".")[0] in ("ST", "STG") else 0


def loaded_bytes(opcode: str) -> int:
    """Bytes a lane reads from global memory, 0 where the instruction does something else."""
    if opcode[:1].islower():
        return _amd_bytes(opcode, "load")
    return _nvidia_bytes(opcode) if opcode.partition(".")[0] in ("LD", "LDG", "LDGSTS") else 0


def _nvidia_bytes(opcode: str) -> int:
    for part in opcode.split("."):
        if re.fullmatch(r"[US]?(8|16)|64|128|256", part):
            return int(part.lstrip("US")) // 8
    return 4


def _amd_bytes(opcode: str, what: str) -> int:
    match = re.match(rf"(?:global|flat|buffer)_{what}_(?:lds_)?([a-z]+\d*(?:x\d)?)", opcode)
    return _AMD_BYTES.get(match[1], 0) if match else 0
