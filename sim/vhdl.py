"""VHDL sources as Verilog, by way of GHDL's synthesis."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from algo.errors import LiftError
from algo.files import write_text

VHDL = (".vhd", ".vhdl")
_ERRORS = 20  # lines of GHDL's answer that an error quotes


def as_verilog(sources: Sequence[Path], top: str, folder: Path) -> tuple[Path, ...]:
    """Replace VHDL files among `sources` by one Verilog file, written to `folder`.

    VHDL knows no case: GHDL writes the names of `top` and of its ports in small letters.

    Raises:
        LiftError: GHDL is not installed or rejects the files.
    """
    vhdl = [source for source in sources if source.suffix.lower() in VHDL]
    if not vhdl:
        return tuple(sources)
    program = shutil.which("ghdl")
    if program is None:
        raise LiftError(
            f"{vhdl[0]} is VHDL, which takes ghdl, not found on PATH; apt install ghdl, or give "
            "Verilog that a synthesis tool wrote"
        )
    done = subprocess.run(
        [program, "--synth", "--std=08", "--out=verilog", *map(str, vhdl), "-e", top],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[:_ERRORS])
        raise LiftError(f"ghdl cannot convert {top}:\n{said}")
    converted = folder / "from_vhdl.v"
    write_text(converted, done.stdout)
    return (*(source for source in sources if source not in vhdl), converted)
