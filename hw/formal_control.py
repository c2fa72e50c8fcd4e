"""A netlist's control as decision diagrams over its few registers and inputs."""

from collections.abc import Iterable, Sequence
from typing import Any

from hw.formal_arithmetic import Diagram, diagrams, make_manager
from hw.netlist import TRUE, Netlist


class OtherMachine(Exception):
    """The netlist is not the machine that it should be; says what differs."""


class Control:
    """Functions of a fixed set of nets, which nothing else may decide.

    Attributes:
        netlist: what they are of.
        manager: of their diagrams.
        leaves: the variable of each net; constants have none.

    Args:
        netlist: see above.
        nets: inputs and registers, in the order of the variables.
    """

    def __init__(self, netlist: Netlist, nets: Iterable[int]) -> None:
        self.netlist = netlist
        self.manager: Any = make_manager()
        self.leaves: dict[int, Diagram] = {}
        for net in nets:
            self.add(net)

    def add(self, net: int) -> None:
        """One more variable, unless it is there or the net is constant."""
        if net > TRUE and net not in self.leaves:
            self.manager.declare(f"n{net}")
            self.leaves[net] = self.manager.var(f"n{net}")

    def of(self, net: int, what: str) -> Diagram:
        """The function of a net.

        Raises:
            OtherMachine: another net decides it; `what` names it for people.
        """
        stray = self.netlist.sources([net], self.leaves.__contains__) - self.leaves.keys()
        if stray:
            raise OtherMachine(f"{what} depends on {self.netlist.name_of(min(stray))}")
        return diagrams(self.manager, self.netlist, [net], self.leaves)[0]

    def number(self, nets: Sequence[int], value: int) -> Diagram:
        """That `nets`, least significant first, have a value."""
        out = self.manager.true
        for n, net in enumerate(nets):
            bit = self.of(net, "a number")
            out &= bit if value >> n & 1 else ~bit
        return out

    def enable(self, q: int, what: str) -> Diagram:
        """When a register takes its input."""
        return self.of(self._register(q, what).enable, f"when {what} moves")

    def after(self, q: int, what: str) -> Diagram:
        """What a register, itself a variable, holds after the next edge."""
        register = self._register(q, what)
        taken = self.of(register.d, what)
        return self.manager.ite(self.enable(q, what), taken, self.leaves[q])

    def check_register(self, q: int, after: Diagram, init: int, what: str) -> None:
        """Show that a register starts as `init` and holds `after` after every edge.

        Raises:
            OtherMachine: it does not.
        """
        if self.after(q, what) != after:
            raise OtherMachine(f"{what} is not what it should become")
        if self.netlist.registers[q].init != init:
            start = self.netlist.registers[q].init
            raise OtherMachine(f"{what} starts as {start}, not as {init}")

    def _register(self, q: int, what: str) -> Any:
        if q not in self.netlist.registers:
            raise OtherMachine(f"{what} is no register")
        return self.netlist.registers[q]
