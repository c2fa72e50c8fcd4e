"""A netlist simulated many times at once: every net is an integer with one bit for each lane.

A lane is a simulation of its own, with its own inputs and state. All lanes take the same time
step, so that a gate is one operation on integers however many lanes there are.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from algo.errors import LiftError
from hw.netlist import FALSE, TRUE, CombinationalLoop, Netlist

Words = list[int]  # one integer for each net, with a bit for each lane
_Evaluate = Callable[[Words, Words, Words, int], tuple[Words, Words]]


class NetlistSimulator:
    """State and ports of `lanes` simulations of one netlist.

    Nets that yosys left undefined have random values, new ones in every cycle.

    Attributes:
        state: by register, one bit for each lane; starts at the initial values, random where a
            register has none.

    Raises:
        LiftError: the netlist has a combinational loop.
    """

    def __init__(self, netlist: Netlist, lanes: int, seed: int = 0) -> None:
        self.netlist = netlist
        self.lanes = lanes
        self._ones = (1 << lanes) - 1
        self._random = Random(seed)
        self._order = sorted(netlist.registers)
        self._evaluate = compile_netlist(netlist, self._order)
        self.state: dict[int, int] = {
            q: self._initial(netlist.registers[q].init) for q in self._order
        }
        self._inputs = {name: [0] * len(nets) for name, nets in netlist.inputs.items()}
        self._next: Words = []
        self._outputs: dict[str, Words] = {}

    def _initial(self, value: int | None) -> int:
        return self._random.getrandbits(self.lanes) if value is None else value * self._ones

    def step(self, inputs: Mapping[str, Words]) -> dict[str, Words]:
        """One clock cycle: the outputs for these inputs, then the edge.

        Args:
            inputs: by port, a word for each of its bits. Ports left out keep their values.

        Returns:
            The same for every output port, as it is before the edge.
        """
        self._inputs.update({name: list(words) for name, words in inputs.items()})
        self.settle()
        outputs = self._outputs
        self.edge()
        return outputs

    def scramble(self) -> None:
        """Give every register of every lane a random value, as at power-up."""
        self.state = {q: self._random.getrandbits(self.lanes) for q in self._order}

    def set(self, port: str, values: Sequence[int]) -> None:
        """Drive an input: one value for each lane."""
        self._inputs[port] = _turn(values, len(self._inputs[port]))

    def settle(self) -> None:
        """Bring the outputs up to date with inputs and state."""
        inputs = [word for words in self._inputs.values() for word in words]
        undefined = [self._random.getrandbits(self.lanes) for _ in self.netlist.undefined]
        flat, self._next = self._evaluate(list(self.state.values()), inputs, undefined, self._ones)
        given = iter(flat)
        self._outputs = {
            name: [next(given) for _ in nets] for name, nets in self.netlist.outputs.items()
        }

    def get(self, port: str) -> list[int]:
        """An output as it was when last settled: one value for each lane."""
        return _turn(self._outputs[port], self.lanes)

    def edge(self) -> None:
        """A rising clock edge, after `settle`."""
        self.state = dict(zip(self._order, self._next, strict=True))


def compile_netlist(netlist: Netlist, order: Sequence[int]) -> _Evaluate:
    """A function of state, inputs, undefined nets and the all-ones word: outputs and next state.

    Args:
        netlist: is evaluated.
        order: of the registers in both states.

    Raises:
        LiftError: the netlist has a combinational loop.
    """
    roots = [net for nets in netlist.outputs.values() for net in nets]
    for q in order:
        roots += [netlist.registers[q].d, netlist.registers[q].enable]
    try:
        cone = netlist.ordered_cone(roots, lambda net: False)
    except CombinationalLoop as loop:
        raise LiftError(
            f"combinational loop: {loop}; faults may close one, take another seed"
        ) from (None)
    given = [net for nets in netlist.inputs.values() for net in nets]
    lines = ["def evaluate(state, inputs, undefined, ones):", f" n{FALSE}, n{TRUE} = 0, ones"]
    for nets, name in (
        (order, "state"),
        (given, "inputs"),
        (sorted(netlist.undefined), "undefined"),
    ):
        if nets:
            lines.append(f" [{', '.join(f'n{net}' for net in nets)}] = {name}")
    for net in cone:
        match netlist.gates.get(net, ()):
            case (one,):
                lines.append(f" n{net} = n{one} ^ ones")
            case (one, other):
                lines.append(f" n{net} = n{one} & n{other}")
    outputs = ", ".join(f"n{net}" for nets in netlist.outputs.values() for net in nets)
    following = ", ".join(_following(netlist, q) for q in order)
    lines.append(f" return [{outputs}], [{following}]")
    scope: dict[str, Any] = {}
    exec(compile("\n".join(lines), "netlist", "exec"), scope)
    made: _Evaluate = scope["evaluate"]
    return made


def _following(netlist: Netlist, q: int) -> str:
    register = netlist.registers[q]
    if register.enable == TRUE:
        return f"n{register.d}"
    return f"n{q} ^ (n{q} ^ n{register.d}) & n{register.enable}"


def _turn(rows: Sequence[int], width: int) -> list[int]:
    """A matrix of bits transposed: bit n of row m becomes bit m of row n."""
    size = -(-width // 8)
    octets = b"".join([row.to_bytes(size, "little") for row in rows])
    table: npt.NDArray[np.uint8] = np.frombuffer(octets, np.uint8).reshape(len(rows), size)
    bits = np.unpackbits(table, axis=1, bitorder="little")[:, :width]
    turned = np.packbits(bits.T, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in turned]
