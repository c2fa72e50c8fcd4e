"""Files that appear whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from algo.errors import LiftError

# read once: it can only be read by setting it, which other threads would notice
_UMASK = os.umask(0)
os.umask(_UMASK)


def check_folder(folder: Path) -> None:
    """Raise LiftError where `folder`, or one that it would lie in, is a file."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise LiftError(f"{place} is a file; give a directory")


def remove_unfinished(folder: Path) -> None:
    """Remove what `written_aside`, or a folder named likewise, left when it was killed."""
    for leftover in folder.glob(".*.*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well, removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        os.chmod(aside, 0o666 & ~_UMASK)  # mkstemp makes it private to its owner
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())  # a crash must not leave an empty file under the final name
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Indented JSON with short lists on one line, so that taps stay readable."""
    write_text(path, _render(value, 0) + "\n")


def _render(value: Any, depth: int) -> str:
    flat = json.dumps(value)
    if not isinstance(value, dict | list) or (len(flat) <= 96 and not isinstance(value, dict)):
        return flat
    pad = "  " * (depth + 1)
    if isinstance(value, dict):
        items = [f"{json.dumps(k)}: {_render(v, depth + 1)}" for k, v in value.items()]
        opening, closing = "{", "}"
    else:
        if not any(isinstance(v, dict | list) for v in value):
            return flat
        items = [_render(v, depth + 1) for v in value]
        opening, closing = "[", "]"
    if not items:
        return opening + closing
    return f"{opening}\n{pad}" + f",\n{pad}".join(items) + f"\n{'  ' * depth}{closing}"


def read_json(path: Path) -> Any:
    """Parsed JSON.

    Raises:
        LiftError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LiftError(f"{path} does not exist") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LiftError(f"{path} is not valid JSON ({error}); it may be truncated") from None
