"""Whether a mutant is the same decoder, for every input and any number of cycles.

The decoder and the mutant get the same inputs, from their initial values on, and are looked at as
one machine. Registers that never differ are shared. For those of the control that may differ the
reachable states of both controls together are computed; of those of the data it is found, as a
least fixed point, for which values of the control's words they may differ. The mutant is the same
decoder where then ready and valid are equal always, and the payload is wherever valid is high.
Where that does not follow nothing is said: the mutant may be the same decoder all the same.
"""

from dataclasses import replace

from hw.mutants import SELECT
from hw.netlist import FALSE, TRUE, Netlist
from hw.reachable import Diagram, Functions, Reachable


class Equivalence:
    """Compares the mutants of one netlist with the decoder that it is when none is selected.

    Raises:
        LiftError: the control depends on data.
    """

    def __init__(self, netlist: Netlist) -> None:
        self._netlist = netlist
        self._original = selected(netlist, 0)
        self._reachable = Reachable(self._original)

    def same(self, mutant: int) -> str | None:
        """How mutant `mutant` was proved to be the decoder, or None where it was not."""
        return _Pair(self._reachable, selected(self._netlist, mutant)).proof()


class _Pair:
    """A decoder and one mutant of it, in step."""

    def __init__(self, reachable: Reachable, changed: Netlist) -> None:
        self._reachable = reachable
        self._manager = reachable.manager
        self._changed = changed
        self._others: dict[int, Diagram] = {}  # the mutant's own variables, by register
        self._seen: dict[int, dict[str, set[int]]] = {}  # when a register of the data may differ
        self._states = reachable.states  # of the control, the mutant's own variables with it

    def proof(self) -> str | None:
        touched = _reached(self._changed, self._reachable.netlist, frozenset(self._others))
        if not touched:
            return "the fault changes no logic"
        while self._step():
            pass
        if not self._outputs_agree():
            return None
        if not self._others:
            return "same next state and outputs in every state that can be reached"
        if not self._seen:
            return "other states of the control, same outputs"
        return "registers differ only while nothing reads them"

    def _step(self) -> bool:
        """Grow the set of differences by one clock edge; returns whether it grew."""
        reachable, registers = self._reachable, self._reachable.netlist.registers
        functions = self._functions()
        touched = _reached(self._changed, self._reachable.netlist, frozenset(self._others))
        grown = False
        for q, register in registers.items():
            mine = self._changed.registers[q]
            if q not in self._others and not touched & {mine.d, mine.enable}:
                continue
            if q in self._others and q in reachable.control:
                continue
            wrong = self._differ(reachable.functions.following(q), functions.following(q))
            if wrong == self._manager.false:
                continue
            if q not in self._others:
                self._others[q] = self._variable(q)
                grown = True
            if q in reachable.control:
                self._states = self._product()
                return True
            self._seen.setdefault(q, {word.name: set() for word in reachable.words})
            grown |= self._widen(q, wrong)
        return grown

    def _product(self) -> Diagram:
        """States of the control of both that can be reached."""
        reachable = self._reachable
        control = {q: self._others[q] for q in self._others.keys() & reachable.control}
        functions = self._functions()
        mine = {f"w{q}": functions.following(q) for q in sorted(control)}
        start = reachable.start({q: reachable.leaves[q] for q in reachable.control})
        return reachable.fixed_point(
            {**reachable.following(), **mine}, start & reachable.start(control)
        )

    def _widen(self, q: int, wrong: Diagram) -> bool:
        seen, grown = self._seen[q], False
        when = self._manager.exist(self._data(), wrong)
        for word in self._reachable.words:
            for value, becomes in word.becomes.items():
                if value not in seen[word.name] and when & becomes != self._manager.false:
                    seen[word.name].add(value)
                    grown = True
        return grown

    def _outputs_agree(self) -> bool:
        functions, original = self._functions(), self._reachable.netlist
        (valid,) = original.outputs["o__valid"]
        offered = self._reachable.functions.of(valid)
        for name, nets in original.outputs.items():
            when = offered if name == "o__payload" else self._manager.true
            for net, other in zip(nets, self._changed.outputs[name], strict=True):
                wrong = self._differ(self._reachable.functions.of(net), functions.of(other), when)
                if wrong != self._manager.false:
                    return False
        return True

    def _differ(self, one: Diagram, other: Diagram, when: Diagram | None = None) -> Diagram:
        """Where they differ, in those states of both that can be, as far as is known."""
        wrong = self._manager.apply("xor", one, other)
        if when is not None:
            wrong &= when
        if wrong == self._manager.false:
            return wrong
        wrong = self._reachable.constrained(wrong) & self._states
        for q, seen in self._seen.items():
            if f"w{q}" in wrong.support:
                same = ~self._manager.apply("xor", self._others[q], self._reachable.leaves[q])
                wrong &= same | self._reachable.any_of(seen)
        return wrong

    def _functions(self) -> Functions:
        return Functions(self._manager, self._changed, {**self._reachable.leaves, **self._others})

    def _variable(self, q: int) -> Diagram:
        self._manager.declare(f"w{q}")
        return self._manager.var(f"w{q}")

    def _data(self) -> set[str]:
        return {*self._reachable.data, *(f"w{q}" for q in self._others)}


def selected(netlist: Netlist, mutant: int) -> Netlist:
    """The netlist with its selecting input at `mutant`, constants followed through."""
    known = {net: mutant >> n & 1 for n, net in enumerate(netlist.inputs[SELECT])}
    known |= {FALSE: FALSE, TRUE: TRUE}
    roots = [net for nets in netlist.outputs.values() for net in nets]
    for register in netlist.registers.values():
        roots += [register.d, register.enable]
    same: dict[int, int] = {}
    gates: dict[int, tuple[int, ...]] = {}
    for net in netlist.ordered_cone(roots, lambda net: False):
        sources = tuple(same.get(s, s) for s in netlist.gates.get(net, ()))
        values = [known.get(s) for s in sources]
        if net in known or not sources:
            continue
        if len(sources) == 1 and values[0] is not None:
            known[net] = 1 - values[0]
        elif len(sources) == 2 and 0 in values:
            known[net] = 0
        elif values == [1, 1]:
            known[net] = 1
        elif len(sources) == 2 and 1 in values:
            same[net] = sources[1 - values.index(1)]
        elif len(sources) == 2 and sources[0] == sources[1]:
            same[net] = sources[0]
        elif len(sources) == 1 and len(gates.get(sources[0], ())) == 1:
            same[net] = gates[sources[0]][0]  # inverted twice
        else:
            gates[net] = sources
    gates |= {net: (other, other) for net, other in same.items()}
    gates |= {net: (value, value) for net, value in known.items() if net > TRUE}
    names = {name: tuple(same.get(n, n) for n in nets) for name, nets in netlist.names.items()}
    return replace(netlist, gates=gates, names=names)


def _reached(
    changed: Netlist, original: Netlist, differing: frozenset[int]
) -> frozenset[int]:
    """Nets that the fault, or a register that may differ, can reach within a cycle."""
    nets = changed.gates.keys() | original.gates.keys()
    touched = {net for net in nets if changed.gates.get(net) != original.gates.get(net)}
    touched |= differing
    for net in changed.ordered_cone(nets, lambda net: False):
        if touched.intersection(changed.gates.get(net, ())):
            touched.add(net)
    return frozenset(touched)


