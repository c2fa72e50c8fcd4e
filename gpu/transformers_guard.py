"""The guard in config.json: taken off when the method is known, put on what is saved.

`algo.serving_files` says what it guards against. transformers drops it when it saves a config; a
model that was loaded puts it back.
"""

import functools
import types
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from algo.files import read_json, write_json
from algo.manifest import MANIFEST
from algo.serving_config import CONFIG
from algo.serving_files import GUARD, GUARD_KEY, GUARD_START


def drop_guard(config: Any) -> None:
    """Let transformers look for the model's files."""
    if str(getattr(config, GUARD_KEY, None)).startswith(GUARD_START):
        delattr(config, GUARD_KEY)


def guard_saving(model: Any) -> None:
    """Have ``model.save_pretrained`` write the guard, too.

    What it uploads by itself (``push_to_hub=True``) goes without. It raises LiftError for the
    directory of a checkpoint, of which it would leave a mixture.
    """

    @functools.wraps(type(model).save_pretrained)
    def save_pretrained(self: Any, save_directory: Any, *arguments: Any, **keywords: Any) -> None:
        if (Path(save_directory) / MANIFEST).exists():
            raise LiftError(
                f"{save_directory} holds a checkpoint, which a copy would mix with; give another "
                "directory"
            )
        type(self).save_pretrained(self, save_directory, *arguments, **keywords)
        path = Path(save_directory) / CONFIG
        if path.is_file():
            write_json(path, {**read_json(path), GUARD_KEY: GUARD})

    model.save_pretrained = types.MethodType(save_pretrained, model)


def drop_guarded_saving(model: Any) -> None:
    """Undo `guard_saving`."""
    del model.save_pretrained
