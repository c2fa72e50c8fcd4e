"""Decoders that are not ours, right ones and wrong ones."""

import re
from dataclasses import dataclass
from pathlib import Path

FOREIGN = Path(__file__).parent / "foreign"
TAPS = ("lq_16_8_taps.vh", "lq_16_8_taps.mem")


@dataclass(frozen=True)
class Foreign:
    """A design in `FOREIGN`, the code it decodes and weights in a stream."""

    file: str
    code: str
    weights: int

    @property
    def top(self) -> str:
        return self.file.partition(".")[0]

    @property
    def map(self) -> Path:
        return FOREIGN / f"{self.top}.toml"


READY_VALID = Foreign("block_ready_valid.v", "LQ-16/8", 40)
VALID_ONLY = Foreign("block_valid_only.v", "LQ-16/8", 56)
VHDL = Foreign("sliding_ready_valid.vhd", "LQ-2/1+6", 48)
FIXED_LATENCY = Foreign("sliding_fixed_latency.sv", "LQ-2/1+6", 24)


def copy_with(design: Foreign, folder: Path, changes: dict[str, str]) -> Path:
    """A copy of a design in which every text of `changes` is replaced, and what it includes."""
    for name in TAPS:
        (folder / name).write_text((FOREIGN / name).read_text())
    text = (FOREIGN / design.file).read_text()
    for old, new in changes.items():
        assert len(re.findall(re.escape(old), text)) == 1, old
        text = text.replace(old, new)
    path = folder / design.file
    path.write_text(text)
    return path
