"""transformers is told of the method whenever it is imported, and stops where it was not told."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from algo.quantise import Recipe, quantise_model
from algo.serving_files import GUARD, GUARD_KEY
from algo.source import open_source
from gpu import transformers_plugin
from liftquant import registration
from tests.conftest import CODES, ROOT

WITHOUT = """
import sys, transformers
for folder in sys.argv[1:]:
    try:
        transformers.AutoModelForCausalLM.from_pretrained(folder)
    except Exception as error:
        print(type(error).__name__, error)
assert "liftquant" not in sys.modules
"""


@pytest.fixture(scope="module")
def folder(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("served") / "out"
    quantise_model(open_source(str(tiny_llama)), Recipe(CODES["LQ-2/1+3"], seed=2), out)
    return out


def lines(script: str, *arguments: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def test_importing_liftquant_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "numpy", "triton", "pydantic", "gpu", "algo")
    script = f"import sys, liftquant; print([m for m in {heavy} if m in sys.modules])"
    assert lines(script) == ["[]"]


def test_without_liftquant_loading_stops_and_says_what_to_import(
    folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    saved, unguarded = tmp_path / "saved", tmp_path / "unguarded"
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(saved)
    shutil.copytree(saved, unguarded)  # as where transformers alone wrote the config
    config = json.loads((unguarded / "config.json").read_text())
    del config[GUARD_KEY]
    (unguarded / "config.json").write_text(json.dumps(config))

    written, copied, bare = lines(WITHOUT, folder, saved, unguarded)
    assert "`pip install liftquant` and `import liftquant`" in GUARD
    for told in (written, copied):
        assert told.startswith("ValueError ")
        assert told.endswith(GUARD)
    assert bare.startswith("RuntimeError You set `ignore_mismatched_sizes` to `False`")


@pytest.mark.parametrize(
    "first", ["import gpu.transformers_quantizer", "from liftquant import LiftquantConfig"]
)
def test_liftquant_first_registers_with_the_real_transformers(first: str) -> None:
    told = lines(f"""
import sys, liftquant, warnings
warnings.simplefilter("error", UserWarning)
assert "transformers" not in sys.modules
{first}
from transformers.quantizers import auto
assert not [f for f in sys.meta_path if type(f).__module__ == "liftquant.registration"]
types = auto.LOADING_ATTRIBUTES_CONFIG_TYPES
print(auto.AUTO_QUANTIZER_MAPPING["liftquant"].__name__, types.count(liftquant.LiftquantConfig))
from gpu.transformers_plugin import register
register()
print(types == auto.LOADING_ATTRIBUTES_CONFIG_TYPES)
""")
    assert told == ["LiftquantQuantizer 1", "True"]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A module in the place of transformers'; the calls of `register`, true where it was whole."""
    (tmp_path / "stand_in_auto.py").write_text("import time\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registration, "MODULE", "stand_in_auto")
    calls: list[bool] = []

    def register() -> None:
        calls.append(getattr(sys.modules["stand_in_auto"], "whole", False))

    monkeypatch.setattr(transformers_plugin, "register", register)
    before = list(sys.meta_path)
    yield calls
    sys.meta_path[:] = before
    sys.modules.pop("stand_in_auto", None)


def test_registered_once_when_imported_later(stand_in: list[bool]) -> None:
    registration.register_with_transformers()
    registration.register_with_transformers()
    assert stand_in == []
    module = importlib.import_module("stand_in_auto")
    assert stand_in == [True]
    assert not any(isinstance(finder, registration._Finder) for finder in sys.meta_path)
    assert importlib.reload(module).whole


def test_registered_at_once_when_imported_before(stand_in: list[bool]) -> None:
    importlib.import_module("stand_in_auto")
    registration.register_with_transformers()
    assert stand_in == [True]


def test_module_that_is_not_there_stays_so(
    stand_in: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "MODULE", "stand_in_missing")
    registration.register_with_transformers()
    with pytest.raises(ModuleNotFoundError, match="stand_in_missing"):
        importlib.import_module("stand_in_missing")
    assert stand_in == []


def test_a_transformers_that_does_not_fit_stays_usable(
    stand_in: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def register() -> None:
        raise ImportError("no such hook")

    monkeypatch.setattr(transformers_plugin, "register", register)
    registration.register_with_transformers()
    with pytest.warns(UserWarning, match="cannot be loaded with from_pretrained here: .*no such"):
        module = importlib.import_module("stand_in_auto")
    assert module.whole
