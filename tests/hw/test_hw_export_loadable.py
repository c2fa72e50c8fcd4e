import hashlib
import json
import re

from hw.capacity import Capacity
from hw.export_loadable import export_loadable, export_writes
from tests.cases import random_code


def test_sidecar_tells_the_truth(tmp_path):
    capacity = Capacity(6, 3, 8, 2)
    paths = export_loadable(capacity, tmp_path, "some_name")
    text, sidecar = paths[0].read_text(), json.loads(paths[1].read_text())
    top = re.search(r"^module some_name\((.*?)\);(.*?)^endmodule", text, re.M | re.S)
    declared = {
        name: (direction, int(high or 0) + 1)
        for direction, high, name in re.findall(
            r"^  (input|output) (?:\[(\d+):0\] )?(\S+);$", top[2], re.M
        )
    }
    assert {p["name"]: (p["direction"], p["width"]) for p in sidecar["ports"]} == declared
    assert sidecar["verilog_sha256"] == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert Capacity(**sidecar["capacity"]) == capacity
    again = export_loadable(capacity, tmp_path / "again", "some_name")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_writes_are_where_the_sidecar_says(tmp_path):
    code, capacity = random_code(5, 2, 4, parities=2), Capacity(6, 3, 8, 3)
    fields = json.loads(export_writes(capacity, code, 11, tmp_path, "x").read_text())
    bus = json.loads(export_loadable(capacity, tmp_path, "x")[1].read_text())["bus"]
    written = {write["address"]: write["value"] for write in fields["writes"]}
    assert len(written) == len(fields["writes"])
    assert written[bus["stream_bits"]] == 55
    assert written[bus["weights_per_stream"]] == 22
    assert written[bus["group_minus_one"]] == 1
    assert (written[bus["window"]], written[bus["overlap"]]) == (code.window, 4)
    assert [written[bus["shift_of_weight_0"] + i] for i in range(2)] == list(code.shifts)
    assert [written[bus["mask_of_parity_0"] + p] for p in range(3)] == [*code.parities, 0]
    row = bus["tap_0_of_weight_0"] + bus["from_weight_to_weight"]
    taps = [written[row + j] for j in range(code.window)]
    assert taps == [int(tap) & 0xFF for tap in code.window_taps[1, : code.window]]
    last = written[row + bus["from_tap_0_to_tap_of_parity_0"] + 1]
    assert last == int(code.window_taps[1, -1]) & 0xFF
    assert fields["latency"] == capacity.latency(code, 11)
    assert (
        capacity.cycles(code, 11, 5)
        == capacity.cycles(code, 11, 1) + 4 * (fields["cycles_per_stream"])
    )
