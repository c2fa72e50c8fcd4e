"""VHDL goes through GHDL; a program of that name stands in for it here."""

import pytest

from algo.errors import LiftError
from sim.vhdl import as_verilog

STAND_IN = """#!/bin/sh
case "$*" in
  "--synth --std=08 --out=verilog {0}/a.vhd {0}/b.VHDL -e decoder")
    echo "module decoder(input clk); endmodule";;
  *) echo "cannot: $*" >&2; exit 1;;
esac
"""


@pytest.fixture
def ghdl(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "ghdl"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.usefixtures("ghdl")
def test_vhdl_becomes_verilog(tmp_path):
    sources = [tmp_path / "a.vhd", tmp_path / "c.v", tmp_path / "b.VHDL"]
    work = tmp_path / "work"
    assert as_verilog(sources, "decoder", work) == (tmp_path / "c.v", work / "from_vhdl.v")
    assert (work / "from_vhdl.v").read_text() == "module decoder(input clk); endmodule\n"


@pytest.mark.usefixtures("ghdl")
def test_what_ghdl_says_is_quoted(tmp_path):
    with pytest.raises(LiftError, match=r"(?s)ghdl cannot convert other:\ncannot: .*-e other"):
        as_verilog([tmp_path / "a.vhd"], "other", tmp_path)


def test_verilog_needs_no_ghdl(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert as_verilog([tmp_path / "c.v"], "decoder", tmp_path) == (tmp_path / "c.v",)
    with pytest.raises(
        LiftError, match=r"a\.vhd is VHDL, which takes ghdl, not found on PATH; apt"
    ):
        as_verilog([tmp_path / "a.vhd"], "decoder", tmp_path)
