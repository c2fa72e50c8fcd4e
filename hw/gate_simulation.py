"""Netlists run bit-parallel: one integer holds a net's value in many independent runs."""

import random
from collections.abc import Mapping

from hw.netlist import FALSE, TRUE, Netlist


class GateSimulation:
    """A netlist in `runs` independent runs, which may all have other inputs.

    Registers begin with their initial values; those without one, and undefined nets at every cycle,
    have a random value in every run.

    Args:
        netlist: what to run.
        runs: how many runs.
        seed: of those random values.
    """

    def __init__(self, netlist: Netlist, runs: int, seed: int) -> None:
        self._netlist = netlist
        self._runs = runs
        self._random = random.Random(seed)
        self._ones = (1 << runs) - 1
        registers = netlist.registers.values()
        self._state = {r.q: self._initial(r.init) for r in registers}
        roots = [net for nets in netlist.outputs.values() for net in nets]
        roots += [net for r in registers for net in (r.d, r.enable)]
        order = netlist.ordered_cone(roots, lambda net: net in self._state)
        self._gates = [
            (net, *netlist.gates[net])
            for net in order
            if net in netlist.gates and net not in self._state
        ]

    def _initial(self, value: int | None) -> int:
        return self._random.getrandbits(self._runs) if value is None else value * self._ones

    def step(self, inputs: Mapping[str, list[int]]) -> dict[str, list[int]]:
        """One clock cycle: the outputs for these inputs, then the edge.

        Args:
            inputs: for every input port but the clock one integer per bit, whose bit k is run k's.

        Returns:
            The same for every output port, as it is before the edge.
        """
        values = {FALSE: 0, TRUE: self._ones, **self._state}
        for net in self._netlist.undefined:
            values[net] = self._random.getrandbits(self._runs)
        for name, nets in self._netlist.inputs.items():
            if name in inputs:
                values.update(zip(nets, inputs[name], strict=True))
        ones = self._ones
        for net, *sources in self._gates:
            if len(sources) == 1:
                values[net] = values[sources[0]] ^ ones
            else:
                values[net] = values[sources[0]] & values[sources[1]]
        for q, register in self._netlist.registers.items():
            enable, old = values[register.enable], values[q]
            self._state[q] = old ^ ((old ^ values[register.d]) & enable)
        return {n: [values[net] for net in nets] for n, nets in self._netlist.outputs.items()}
