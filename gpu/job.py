"""What there is to compile of a kernel."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KernelJob:
    """One kernel to compile: its types, its constants and the arguments divisible by 16."""

    kernel: str
    code: str
    function: Any
    signature: dict[str, str]
    constants: dict[str, int]
    aligned: tuple[str, ...]
    options: dict[str, int]
