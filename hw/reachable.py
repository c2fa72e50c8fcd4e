"""What states a netlist's control can be in, and what that says of its data, by decision diagrams.

The control is every register that ready and valid depend on over any number of cycles. No data
reach it, so that its reachable states are exact: a fixed point from the initial values under any
input, reset included. Of a data register it is known for which values of each word of the control
(a named signal) it may be 1; that is the least fixed point too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from algo.errors import LiftError
from hw.formal_arithmetic import make_manager
from hw.netlist import FALSE, TRUE, Netlist
from hw.netlist_sim import NetlistSimulator

Diagram = Any  # dd publishes no types
_MAX_WORD = 8  # bits of a word whose values are told apart
_LANES, _CYCLES = 64, 400  # of the simulation that guesses which data depend on control


class Functions:
    """Diagrams of a netlist's nets within a cycle, over what is given for registers and inputs."""

    def __init__(self, manager: Any, netlist: Netlist, leaves: Mapping[int, Diagram]) -> None:
        self._manager = manager
        self._netlist = netlist
        self._values: dict[int, Diagram] = {FALSE: manager.false, TRUE: manager.true, **leaves}

    def of(self, net: int) -> Diagram:
        """The diagram of a net; undefined nets are variables ``x``, the same in every netlist."""
        values, manager = self._values, self._manager
        pending = [net]
        while pending:
            at = pending[-1]
            if at in values:
                pending.pop()
            elif at in self._netlist.undefined:
                manager.declare(f"x{at}")
                values[at] = manager.var(f"x{at}")
            else:
                sources = self._netlist.gates[at]
                missing = [source for source in sources if source not in values]
                pending += missing
                if not missing:
                    one, *other = (values[source] for source in sources)
                    values[at] = one & other[0] if other else ~one
        return values[net]

    def following(self, q: int) -> Diagram:
        """The next value of register `q`."""
        register = self._netlist.registers[q]
        enable = self.of(register.enable)
        return self._manager.ite(enable, self.of(register.d), self.of(q))


@dataclass(frozen=True)
class Word:
    """A named signal of the control.

    Attributes:
        name: of the signal.
        is_value: by value that can be reached, that the word has it.
        becomes: by value, that it has it after the next clock edge.
    """

    name: str
    is_value: Mapping[int, Diagram]
    becomes: Mapping[int, Diagram]


class Reachable:
    """The reachable states of one decoder.

    Attributes:
        manager: of all diagrams.
        leaves: variables of registers and inputs, by net.
        functions: of the decoder.
        control: registers of the control.
        states: of the control that can be reached.
        words: of the control.
        known: by data register, what holds wherever it is 1; registers of which nothing is known
            are not in it.

    Raises:
        LiftError: the control depends on data.
    """

    def __init__(self, netlist: Netlist) -> None:
        self.netlist = netlist
        self.control = _control_registers(netlist)
        self.manager = manager = make_manager()
        manager.configure(reordering=True)
        self.leaves: dict[int, Diagram] = {}
        inputs = [net for nets in netlist.inputs.values() for net in nets]
        for net in [*sorted(self.control), *inputs, *sorted(netlist.registers)]:
            if net not in self.leaves:
                # next to each other: what a variable becomes is close to what it was
                after = [f"after v{net}"] if net in self.control else []
                manager.declare(f"v{net}", *after)
                self.leaves[net] = manager.var(f"v{net}")
        self.functions = Functions(manager, netlist, self.leaves)
        self.data = frozenset(f"v{q}" for q in netlist.registers.keys() - self.control)
        start = self.start({q: self.leaves[q] for q in self.control})
        self.states = self.fixed_point(self.following(), start)
        self.words = self._words()
        self.known: dict[int, Diagram] = {}
        self._learn()

    def following(self) -> dict[str, Diagram]:
        """The next value of every variable of the control."""
        return {f"v{q}": self.functions.following(q) for q in sorted(self.control)}

    def fixed_point(self, following: Mapping[str, Diagram], start: Diagram) -> Diagram:
        """States of the variables in `following` that are reached from `start`.

        Each takes the value given for it at every step; all other variables may be anything.
        """
        manager = self.manager
        manager.declare(*(f"after {name}" for name in following))
        back = {f"after {name}": manager.var(name) for name in following}
        relation = manager.true
        for name, function in following.items():
            relation &= ~manager.apply("xor", manager.var(f"after {name}"), function)
        free = relation.support - following.keys() - back.keys()
        relation = manager.exist(free, relation)
        state = start
        while True:
            image = manager.let(back, manager.exist(list(following), relation & state))
            larger = state | image
            if larger == state:
                return state
            state = larger

    def start(self, variables: Mapping[int, Diagram]) -> Diagram:
        """That variables of registers have the registers' initial values, where they have any."""
        result = self.manager.true
        for q, variable in variables.items():
            init = self.netlist.registers[q].init
            if init is not None:
                result &= variable if init else ~variable
        return result

    def _words(self) -> list[Word]:
        manager, found, seen = self.manager, [], set()
        for name, nets in sorted(self.netlist.names.items()):
            strange = "$" in name or nets in seen or len(nets) > _MAX_WORD
            if strange or not self.control.issuperset(nets):
                continue
            seen.add(nets)
            bits = [self.leaves[q] for q in nets]
            following = [self.functions.following(q) for q in nets]
            is_value, becomes = {}, {}
            for value in range(1 << len(nets)):
                here = _equals(manager, bits, value)
                if here & self.states != manager.false:
                    is_value[value] = here
                    becomes[value] = _equals(manager, following, value)
            found.append(Word(name, is_value, becomes))
        return found

    def _learn(self) -> None:
        """Find `known`: guess from a simulation, then weaken until every step keeps it."""
        manager = self.manager
        guessed = self._guess()
        changed = True
        while changed:
            changed = False
            self.known = {q: self.any_of(seen) for q, seen in guessed.items()}
            for q, seen in guessed.items():
                one = self.functions.following(q)
                may = self.constrained(one)
                may = manager.exist(may.support & self.data, may)
                for word in self.words:
                    for value, becomes in word.becomes.items():
                        if value not in seen[word.name] and may & becomes != manager.false:
                            seen[word.name].add(value)
                            changed = True
        self.known = {
            q: bound for q, bound in self.known.items() if self.states & ~bound != manager.false
        }

    def constrained(self, function: Diagram) -> Diagram:
        """`function` in those states that can be, as far as is known of the data it reads."""
        result = function & self.states
        for name in sorted(result.support & self.data):
            bound = self.known.get(int(name[1:]))
            if bound is not None:
                result &= ~self.manager.var(name) | bound
        return result

    def any_of(self, seen: Mapping[str, set[int]]) -> Diagram:
        """That every word has one of the values that `seen` lists for it."""
        manager, result = self.manager, self.manager.true
        for word in self.words:
            if len(seen[word.name]) < len(word.is_value):
                some = manager.false
                for value in seen[word.name]:
                    some |= word.is_value[value]
                result &= some
        return result

    def _guess(self) -> dict[int, dict[str, set[int]]]:
        """By data register that starts as 0, the values seen of every word while it was 1."""
        netlist = self.netlist
        simulator = NetlistSimulator(netlist, _LANES)

        random = Random(0)
        seen: dict[int, dict[str, set[int]]] = {
            q: {word.name: set() for word in self.words}
            for q in netlist.registers.keys() - self.control
            if netlist.registers[q].init == 0
        }
        pressure = [random.random() for _ in range(_LANES)]
        for _ in range(_CYCLES):
            for port, nets in netlist.inputs.items():
                width = len(nets)
                match port:
                    case "rst":
                        values = [int(random.random() < 0.01) for _ in range(_LANES)]
                    case "i__valid":
                        values = [int(random.random() < p) for p in pressure]
                    case "o__ready":
                        values = [int(random.random() >= p) for p in pressure]
                    case _:
                        values = [random.getrandbits(width) for _ in range(_LANES)]
                simulator.set(port, values)
            for word in self.words:
                for value in word.is_value:
                    lanes = (1 << _LANES) - 1
                    for n, q in enumerate(netlist.names[word.name]):
                        lanes &= simulator.state[q] if value >> n & 1 else ~simulator.state[q]
                    if lanes:
                        for q, found in seen.items():
                            if simulator.state[q] & lanes:
                                found[word.name].add(value)
            simulator.settle()
            simulator.edge()
        full = {word.name: len(word.is_value) for word in self.words}
        return {
            q: found
            for q, found in seen.items()
            if any(len(values) < full[name] for name, values in found.items())
        }


def _equals(manager: Any, bits: Iterable[Diagram], value: int) -> Diagram:
    result = manager.true
    for n, bit in enumerate(bits):
        result &= bit if value >> n & 1 else ~bit
    return result


def _control_registers(netlist: Netlist) -> frozenset[int]:
    """Registers that ready and valid depend on, over any number of cycles."""
    found: set[int] = set()
    handshakes = [net for name in ("i__ready", "o__valid") for net in netlist.outputs[name]]
    while True:
        sources = netlist.sources(handshakes, lambda net: False)
        if sources & set(netlist.inputs["i__payload"]):
            raise LiftError("ready or valid depends on data; reachable states are not looked for")
        new = (sources & netlist.registers.keys()) - found
        if not new:
            return frozenset(found)
        found |= new
        handshakes = [n for q in new for n in (netlist.registers[q].d, netlist.registers[q].enable)]
