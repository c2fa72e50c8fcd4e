"""Memory of this process, in bytes."""

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")  # of Linux


def peak_memory() -> int:
    """The most memory that was resident at any time.

    On Linux that of the program itself (VmHWM): what getrusage says there includes the process that
    started it, as it was then.
    """
    found = _status("VmHWM")
    if found is not None:
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def resident_memory() -> int:
    """What is resident now; where the system does not say, the most that was."""
    found = _status("VmRSS")
    return peak_memory() if found is None else found


def _status(field: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024  # the file says kB and means KiB
    return None
