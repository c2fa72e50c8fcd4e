"""Telling transformers of the method as soon as it is imported, without importing it."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MODULE = "transformers.quantizers.auto"


def register_with_transformers() -> None:
    """Register the method now if transformers' quantizers are loaded, or else when they are."""
    if MODULE in sys.modules:
        importlib.import_module(MODULE)  # waits where another thread is at it
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    try:
        from gpu.transformers_plugin import register

        register()
    except Exception as error:  # transformers must stay usable, whatever its version
        warnings.warn(
            f"liftquant checkpoints cannot be loaded with from_pretrained here: {error!r}",
            stacklevel=2,
        )


class _Finder(MetaPathFinder):
    """Finds one module as others do, once, and has the method registered after it is run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _register()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
