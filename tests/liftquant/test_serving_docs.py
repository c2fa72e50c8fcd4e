"""The Python examples of docs/serving.md run as they stand there, one after another."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from liftquant.cli import run
from tests.conftest import ROOT

GUIDE = (ROOT / "docs" / "serving.md").read_text()
CHECKPOINT = "smollm2-2.4"  # what the guide calls it


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_examples_run(
    reading_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / CHECKPOINT).symlink_to(reading_checkpoint)
    monkeypatch.chdir(tmp_path)
    compiled: list[Any] = []
    compile_model = torch.compile

    def traced(model: Any, **given: Any) -> Any:
        """The graph is made as ever, and run as it is: a compiler would take a minute."""
        compiled.append(compile_model(model, backend="eager", **given))
        return compiled[-1]

    monkeypatch.setattr(torch, "compile", traced)
    names: dict[str, Any] = {}
    capsys.readouterr()
    for block in _blocks("python"):
        if "from vllm" not in block:
            exec(compile(block, "docs/serving.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.startswith("T h e   c a p i t a l")  # the tiny model's tokens are letters
    assert len(compiled) == 1
    with torch.inference_mode():
        assert torch.equal(names["logits"], names["model"](**names["inputs"]).logits)
    saved = json.loads(Path(f"{CHECKPOINT}-a15", "config.json").read_text())
    assert saved["quantization_config"]["digits"] == 2


def _commands() -> list[str]:
    """Command lines of ours, comments and redirections cut off."""
    lines = re.findall(r"^    (?:.*\| )?liftquant (.*)$", GUIDE, re.MULTILINE)
    return [re.split(r"\s+(?:#|>)", line)[0] for line in lines]


def test_the_guide_shows_commands() -> None:
    assert {line.split()[0] for line in _commands()} == {"quantize", "generate", "bench"}


@pytest.mark.parametrize("line", [*_commands(), "generate m --no-such-option"])
def test_commands_have_the_options(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --help nothing is run, but options that do not exist are refused."""
    status = run([*shlex.split(line), "--help"])
    assert status == (2 if "no-such" in line else 0), capsys.readouterr().err
