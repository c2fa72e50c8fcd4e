"""Cutting a waveform leaves every signal with the value it has."""

import pytest

from sim.vcd import cut_vcd

HEAD = '$timescale 1ps $end\n$var wire 1 ! a $end\n$var wire 4 " b $end\n$enddefinitions $end\n'
BODY = '#0\n$dumpvars\n0!\nb0000 "\n$end\n#10\n1!\n#20\nb0101 "\n#30\n0!\n#40\nb1111 "\n'


def value_at(text, time):
    """The values of both signals at a time."""
    held, now = {}, 0
    for line in text.splitlines():
        if line.startswith("#"):
            now = int(line[1:])
        elif now <= time and line[0] in "01b":
            held[line[-1]] = line
    return held


@pytest.mark.parametrize(
    ("first", "last"), [(0, 99), (0, 0), (10, 20), (11, 29), (20, 20), (35, 99), (99, 99)]
)
def test_a_cut_agrees_with_the_whole(tmp_path, first, last):
    source, target = tmp_path / "whole.vcd", tmp_path / "cut.vcd"
    source.write_text(HEAD + BODY)
    cut_vcd(source, target, first, last)
    head, _, body = target.read_text().partition("$enddefinitions $end\n")
    assert head + "$enddefinitions $end\n" == HEAD
    times = [int(line[1:]) for line in body.splitlines() if line.startswith("#")]
    assert times[0] == first
    assert times == sorted(set(times))
    assert max(times) <= last
    for time in range(first, last + 1):
        assert value_at(body, time) == value_at(BODY, time), time


def test_a_file_can_be_cut_in_place(tmp_path):
    path = tmp_path / "w.vcd"
    path.write_text(HEAD + BODY)
    cut_vcd(path, path, 25, 30)
    assert path.read_text() == HEAD + '#25\n$dumpvars\n1!\nb0101 "\n$end\n#30\n0!\n'
