import re

import pytest

from hw.export import verilog_text
from hw.memory_files import write_with_files
from hw.synthesis import map_to_ecp5
from tests.hw.streams import Rom


@pytest.mark.parametrize("words", [1023, 1024])
def test_long_lists_go_to_files_word_for_word(tmp_path, words):
    verilog = verilog_text(Rom(words), "decoder")
    write_with_files(verilog, tmp_path / "design.v")
    text = (tmp_path / "design.v").read_text()
    if words < 1024:
        assert text == verilog
        return
    file = re.search(r'\$readmemh\("(.*?)"', text)[1]
    stored = [int(word, 16) for word in (tmp_path / file).read_text().split()]
    assert stored == [(n * 40503) >> 3 & 0xFFFF for n in range(words)]
    assert len(text) < len(verilog) / 5


def test_lists_with_gaps_stay(tmp_path):
    lines = [f"    m [{n}] = 4'h{n % 16:x};\n" for n in range(1500) if n != 7]
    verilog = (
        f"module a;\n  reg [3:0] m [0:1499];\n  initial begin\n{''.join(lines)}  end\nendmodule"
    )
    write_with_files(verilog, tmp_path / "design.v")
    assert (tmp_path / "design.v").read_text() == verilog


def test_yosys_finds_the_same_contents(tmp_path, monkeypatch):
    """The mapped block RAM holds the same words, however they were read."""
    verilog = verilog_text(Rom(1024), "decoder")
    map_to_ecp5(verilog, "decoder", tmp_path)
    by_file = re.findall(r"INITVAL_\w+\(320'h\w+", (tmp_path / "mapped.v").read_text())
    monkeypatch.setattr("hw.memory_files._LONG", 10_000)
    map_to_ecp5(verilog, "decoder", tmp_path)
    by_list = re.findall(r"INITVAL_\w+\(320'h\w+", (tmp_path / "mapped.v").read_text())
    assert by_file == by_list != []
