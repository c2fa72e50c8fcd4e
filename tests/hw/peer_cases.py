"""Windows for the peers' decoders, and their netlists evaluated on all of them at once."""

import numpy as np

from hw.export import verilog_text
from hw.netlist import FALSE, TRUE, map_verilog
from sim.stimulus import Stimulus


def every_window(decoder):
    """int64: every window of one lane, repeated to whole octets."""
    return np.arange(max(8, 1 << decoder.bits), dtype=np.int64) & ((1 << decoder.bits) - 1)


def netlist_weights(component, windows):
    """Weights ``(n, lanes * weights)`` that the netlist holds for the same window in all lanes.

    Registers pass on what they are given, which is what a pipeline without feedback computes; a
    net is a column of bits, one for each window.
    """
    netlist = map_verilog(verilog_text(component, "top"), "top")
    zeros = np.zeros(-(-len(windows) // 8), np.uint8)
    known = {FALSE: zeros, TRUE: ~zeros} | dict.fromkeys(netlist.undefined, zeros)
    for place, net in enumerate(netlist.inputs["i__payload"]):
        bits = windows >> place % component.bits & 1
        known[net] = np.packbits(bits.astype(np.uint8), bitorder="little")
    stack = list(netlist.outputs["o__payload"])
    while stack:
        net = stack[-1]
        register = netlist.registers.get(net)
        sources = (register.d,) if register else netlist.gates.get(net, ())
        missing = [source for source in sources if source not in known]
        if net in known:
            stack.pop()
        elif missing:
            stack += missing
        elif register:
            known[net] = known[register.d]
        else:
            first, *others = (known[source] for source in sources)
            known[net] = first & others[0] if others else ~first
    columns = [
        np.unpackbits(known[net], count=len(windows), bitorder="little")
        for net in netlist.outputs["o__payload"]
    ]
    fields = np.stack(columns, axis=1).reshape(len(windows), -1, component.width).astype(np.int64)
    return signed(fields @ (1 << np.arange(component.width)), component.width)


def signed(fields, width):
    half = 1 << width - 1
    return (fields ^ half) - half


def stimulus(component, windows, seed=0, stalls=(0.0, 0.0)):
    """Beats of ``(n, lanes)`` windows, and the reference's weights."""
    expected = component.reference(windows.ravel()).reshape(len(windows), -1)
    return Stimulus(
        inputs=[_joined(row, component.bits) for row in windows],
        expected=[_joined(row, component.width) for row in expected],
        masks=[(1 << expected.shape[1] * component.width) - 1],
        field=component.width,
        group=component.weights,
        seed=seed,
        stalls=stalls,
    )


def _joined(values, width):
    mask = (1 << width) - 1
    return sum((int(value) & mask) << width * k for k, value in enumerate(values))
