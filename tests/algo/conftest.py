"""A finished checkpoint of the tiny model, for the tests of several modules."""

import shutil
from pathlib import Path

import pytest

from algo.quantise import Recipe, quantise_model
from algo.source import open_source
from tests.conftest import CODES

RECIPE = Recipe(CODES["LQ-12/5+9"], "out", seed=4)


@pytest.fixture(scope="session")
def finished(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "out"
    quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
