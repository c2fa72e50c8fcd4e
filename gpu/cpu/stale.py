"""Compiled kernels that are older than what they were compiled from.

Numba compiles a function again when the file it stands in has changed. Kernels here are put
together from several files, and one that took its arguments by an older layout than its caller
lays out would read what is not there.
"""

from pathlib import Path


def remove_stale(folder: Path) -> list[Path]:
    """Delete indices of compiled kernels that any source in `folder` is newer than.

    What is compiled by another process meanwhile is compiled again; a folder that cannot be written
    is left alone.

    Returns:
        What was deleted.
    """
    newest = max(path.stat().st_mtime for path in folder.glob("*.py"))
    removed = []
    for index in sorted((folder / "__pycache__").glob("*.nbi")):
        try:
            if index.stat().st_mtime < newest:
                index.unlink()
                removed.append(index)
        except OSError:  # another process was faster, or may write where this one may not
            continue
    return removed
