"""The tutorial goes as docs/rtl-verify.md says, and the pictures of the docs are current."""

import re
import shutil
from pathlib import Path

import pytest

from liftquant.cli import run

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = DOCS / "pictures"
PAGE = (DOCS / "rtl-verify.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.M | re.S)
QUICK = "icarus" if shutil.which("iverilog") else "verilator"


def block(kind: str, number: int = 0) -> str:
    """A code block of the page, by its language."""
    return [text for language, text in BLOCKS if language == kind][number]


@pytest.mark.parametrize(
    ("arguments", "module", "picture"),
    [
        (["export", "LQ-2/1+6", "--weights", "48"], "liftquant_decoder", "tutorial"),
        (["export", "LQ-12/5+9", "--weights", "580"], "liftquant_decoder", "decoder"),
        (
            ["export-loadable", "--lifted", "8", "--group", "10", "--window", "12", "--parities",
             "12", "--code", "LQ-12/5+9", "--weights", "576"],
            "liftquant_loadable",
            "loadable",
        ),
    ],
    ids=["tutorial", "decoder", "loadable"],
)  # fmt: skip
def test_pictures_in_the_docs_are_what_export_writes(
    arguments: list[str], module: str, picture: str, tmp_path: Path
) -> None:
    assert run(["rtl", *arguments, str(tmp_path)]) == 0
    for what in ("block", "timing"):
        written = (tmp_path / f"{module}.{what}.svg").read_text()
        assert written == (PICTURES / f"{picture}.{what}.svg").read_text(), (
            f"docs/pictures/{picture}.{what}.svg is old; copy what `liftquant rtl` writes there"
        )


def test_every_picture_is_shown_and_there() -> None:
    pages = PAGE + (DOCS / "rtl-decoders.md").read_text()
    shown = re.findall(r"\]\(pictures/([\w.]+)\)", pages)
    assert sorted(shown) == sorted(path.name for path in PICTURES.iterdir())


def test_the_tutorial_goes_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("decoder.v").write_text(block("verilog"))
    Path("ports.toml").write_text(block("toml"))
    (command,) = re.findall(r"^\$ liftquant (rtl verify .*)$", PAGE, re.M)
    arguments = [*command.split(), "--simulator", QUICK]

    assert run(arguments) == 1
    answer = capsys.readouterr().out
    said = PAGE[PAGE.index("first mismatch, pass") : PAGE.index("waveform: rtl-verify")]
    assert said in answer
    assert "picture: rtl-verify/waves.svg" in answer
    drawn = Path("rtl-verify/waves.svg").read_text()
    assert drawn == (PICTURES / "tutorial.wrong.svg").read_text()

    wrong = "      held <= held >> 2;\n"
    assert block("verilog").count(wrong) == 1
    Path("decoder.v").write_text(block("verilog").replace(wrong, block("verilog", 1)))
    assert run(arguments) == 0
    assert "RIGHT: " in capsys.readouterr().out
