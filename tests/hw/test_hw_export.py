import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from algo.code import LiftCode
from hw.architecture import Architecture, parse_architecture
from hw.decoder import Decoder
from hw.export import export
from hw.output import Output, Scale
from tests.cases import random_code

SCRIPT = """
import sys
from pathlib import Path
from tests.cases import random_code
from hw.decoder import Decoder
from hw.export import export
export(Decoder(random_code(12, 5, 9, 2), 9, 2), Path(sys.argv[1]))
"""


def test_bytes_do_not_depend_on_the_process(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            check=True,
        )
    for name in ("liftquant_decoder.v", "liftquant_decoder.json"):
        first, second = (tmp_path / seed / name for seed in ("1", "2"))
        assert first.read_bytes() == second.read_bytes()
        assert b"/home" not in first.read_bytes()
        assert str(Path(__file__).parents[2]).encode() not in first.read_bytes()


@pytest.mark.parametrize(
    ("shape", "groups", "lanes", "architecture"),
    [
        ((24, 10), 5, 1, "tables:4"),
        ((12, 5, 9, 2), 9, 2, "tree,levels=2"),
        ((12, 5, 9, 2), 9, 2, "shared:3,flow=credit"),
    ],
)
def test_sidecar_tells_the_truth(tmp_path, shape, groups, lanes, architecture):
    code = random_code(*shape)
    decoder = Decoder(code, groups, lanes, architecture)
    verilog_path, sidecar_path = export(decoder, tmp_path, "some_name")
    assert (verilog_path.name, sidecar_path.name) == ("some_name.v", "some_name.json")
    text, sidecar = verilog_path.read_text(), json.loads(sidecar_path.read_text())

    top = re.search(r"^module some_name\((.*?)\);(.*?)^endmodule", text, re.M | re.S)
    declared = {
        name: (direction, int(high or 0) + 1)
        for direction, high, name in re.findall(
            r"^  (input|output) (?:\[(\d+):0\] )?(\S+);$", top[2], re.M
        )
    }
    stated = {p["name"]: (p["direction"], p["width"]) for p in sidecar["ports"]}
    assert stated == declared
    assert set(stated) == set(top[1].split(", "))

    assert sidecar["verilog_sha256"] == hashlib.sha256(verilog_path.read_bytes()).hexdigest()
    assert LiftCode.from_definition(sidecar["code"]) == code
    assert sidecar["taps_sha256"] == hashlib.sha256(code.taps.tobytes()).hexdigest()
    assert (sidecar["groups"], sidecar["lanes"]) == (groups, lanes)
    stated = dict(sidecar["architecture"])
    assert stated.pop("text") == architecture
    assert Architecture(**stated) == parse_architecture(architecture)
    assert sidecar["cycles_per_beat"] == (decoder.cycles(3) - decoder.cycles(2)) / decoder.beats_out
    assert sidecar["latency"] == decoder.latency
    assert sidecar["input"]["beats_per_stream"] == decoder.beats_in
    assert sidecar["output"]["beats_per_stream"] == decoder.beats_out
    assert sidecar["output"]["weight"] == {"width": 12, "signed": True, "exponent": code.exponent}


@pytest.mark.parametrize("axis", ["in", "out"])
def test_sidecar_of_the_last_stage(tmp_path, axis):
    output = Output(8, Scale(axis, 16, 20))
    decoder = Decoder(random_code(5, 2, 4), 9, 2, output=output, mark_last=True)
    verilog_path, sidecar_path = export(decoder, tmp_path)
    text, sidecar = verilog_path.read_text(), json.loads(sidecar_path.read_text())
    top = re.search(r"^module liftquant_decoder\((.*?)\);", text, re.M | re.S)
    assert {p["name"] for p in sidecar["ports"]} == set(top[1].split(", "))
    widths = {p["name"]: p["width"] for p in sidecar["ports"]}
    assert widths["o__payload"] == 4 * 8
    assert widths["scale__payload"] == (16 if axis == "in" else 4 * 16)
    assert widths["last"] == 1
    assert sidecar["output"]["weight"]["width"] == 8
    assert sidecar["output"]["last_marked"]
    stated = sidecar["scale"]
    assert (stated["axis"], stated["multiplier_bits"], stated["shift"]) == (axis, 16, 20)
    assert stated["beats_per_stream"] == (1 if axis == "in" else 5)
