"""Folders in which a checkpoint grows, and which a stopped run leaves to be completed.

Until its manifest is there a folder holds ``unfinished.json``: the settings it was begun with, and
what the run noted since. The same settings complete it, others are refused. Before that it may hold
``sensitivities.json``, from which codes are chosen (`algo.sensitivity.kept_sensitivities`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from algo.files import read_json, remove_unfinished, write_json
from algo.manifest import MANIFEST, SENSITIVITIES, UNFINISHED


def check_folder(folder: Path) -> None:
    """Raise LiftError where a checkpoint cannot be written, or an unfinished one resumed."""
    if (folder / MANIFEST).exists():
        raise LiftError(f"{folder} holds a finished checkpoint; choose another folder or remove it")
    if folder.exists() and not folder.is_dir():
        raise LiftError(f"{folder} is a file; choose another name for the folder")
    if not folder.exists() or (folder / UNFINISHED).exists():
        return
    if any(file.name != SENSITIVITIES and not _aside(file) for file in folder.iterdir()):
        raise LiftError(f"{folder} exists and is not empty; choose another folder")


def begin(folder: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a folder ready for a run, or for going on with one.

    Args:
        folder: the checkpoint to be.
        settings: all that the result depends on, as JSON values.

    Returns:
        What a stopped run noted; empty for a new one.

    Raises:
        LiftError: the folder is taken, or was begun with other settings.
    """
    check_folder(folder)
    saved: dict[str, Any] = {}
    if (folder / UNFINISHED).exists():
        found = read_json(folder / UNFINISHED)
        if not isinstance(found, dict) or found.get("settings") != settings:
            raise LiftError(
                f"{folder} holds an unfinished run with other settings or another model; "
                "repeat those to resume it, or choose another folder"
            )
        saved = found
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    noted = {name: value for name, value in saved.items() if name != "settings"}
    note(folder, settings, noted)
    return noted


def _aside(file: Path) -> bool:
    return file.name.startswith(f".{SENSITIVITIES}.")  # killed while it was written


def finished(folder: Path) -> None:
    """Remove what only an unfinished checkpoint needs; the manifest is there."""
    for name in (UNFINISHED, SENSITIVITIES):
        (folder / name).unlink(missing_ok=True)


def note(folder: Path, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write down what a run has done so far, beside its settings."""
    write_json(folder / UNFINISHED, {"settings": settings, **state})
