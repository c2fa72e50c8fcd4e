"""Whether a mutant is the same decoder, for every input and any number of cycles.

The decoder and the mutant get the same inputs, from their initial values on, and are looked at as
one machine. Registers that never differ are shared. For those of the control that may differ the
reachable states of both controls together are computed; of those of the data it is found, as a
least fixed point, for which values of the control's words they may differ. The mutant is the same
decoder where then ready and valid are equal always, and the payload is wherever valid is high.
Where that does not follow nothing is said: the mutant may be the same decoder all the same.
"""

from collections.abc import Iterable, Iterator

from hw.mutants import selected
from hw.netlist import Netlist
from hw.reachable import Diagram, Functions, Reachable

_MOST = 64  # registers that differ; a fault that is none touches few
_MOST_NODES = 3_000_000  # of diagrams; then no more is tried


class Equivalence:
    """Compares the mutants of one netlist with the decoder that it is when none is selected.

    Raises:
        LiftError: the control depends on data.
    """

    def __init__(self, netlist: Netlist) -> None:
        self._netlist = netlist
        self._original = selected(netlist, 0)
        self._reachable = Reachable(self._original)

    def same_step(self, mutant: int) -> str | None:
        """As `same`, but looks at one clock edge alone, which is quick and proves most."""
        return _Pair(self._reachable, selected(self._netlist, mutant)).proof_of_a_step()

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

    def proof_of_a_step(self) -> str | None:
        if not self._touched():
            return "the fault changes no logic"
        if list(self._wrong(self._changed.registers)) or not self._outputs_agree():
            return None
        return "same next state and outputs in every state that can be reached"

    def proof(self) -> str | None:
        grown = True
        while grown:
            # most faults that are some show at an output before they have spread
            self._follow_control()
            if not self._outputs_agree():
                return None
            if len(self._others) > _MOST or len(self._manager) > _MOST_NODES:
                return None
            grown = self._spread()
        if not self._seen:
            return "other states of the control, same outputs"
        return "registers differ only while nothing reads them"

    def _follow_control(self) -> None:
        """Bring the states of both controls up to date."""
        while new := [q for q, _ in self._wrong(self._reachable.control - self._others.keys())]:
            for q in new:
                self._others[q] = self._variable(q)
            self._states = self._product()

    def _outputs_agree(self) -> bool:
        """Whether ready and valid are equal, and the payload while valid is high."""
        (valid,) = self._reachable.netlist.outputs["o__valid"]
        offered, always = self._reachable.functions.of(valid), self._manager.true
        return (
            self._agree("i__ready", always)
            and self._agree("o__valid", always)
            and self._agree("o__payload", offered)
        )

    def _agree(self, port: str, when: Diagram) -> bool:
        functions, original = self._functions(), self._reachable.netlist
        for net, other in zip(original.outputs[port], self._changed.outputs[port], strict=True):
            one = self._reachable.functions.of(net)
            if self._differ(one, functions.of(other), when) != self._manager.false:
                return False
        return True

    def _spread(self) -> bool:
        """Let differences of the data grow by one clock edge; returns whether they did."""
        grown = False
        for q, wrong in self._wrong(self._changed.registers.keys() - self._reachable.control):
            if q not in self._others:
                self._others[q] = self._variable(q)
                self._seen[q] = {word.name: set() for word in self._reachable.words}
                grown = True
            grown |= self._widen(q, wrong)
        return grown or bool(list(self._wrong(self._reachable.control - self._others.keys())))

    def _wrong(self, registers: Iterable[int]) -> Iterator[tuple[int, Diagram]]:
        """Those of `registers` that may take different values, and where."""
        functions, touched = self._functions(), self._touched()
        for q in sorted(registers):
            mine = self._changed.registers[q]
            if q in self._others or touched & {mine.d, mine.enable}:
                one, other = self._reachable.functions.following(q), functions.following(q)
                wrong = self._differ(one, other, self._manager.true)
                if wrong != self._manager.false:
                    yield q, wrong

    def _touched(self) -> frozenset[int]:
        """Nets that the fault, or a register that may differ, can reach within a cycle."""
        original, changed = self._reachable.netlist.gates, self._changed.gates
        nets = changed.keys() | original.keys()
        touched = {net for net in nets if changed.get(net) != original.get(net)}
        touched |= self._others.keys()
        for net in self._changed.ordered_cone(nets, lambda net: False):
            if touched.intersection(changed.get(net, ())):
                touched.add(net)
        return frozenset(touched)

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

    def _differ(self, one: Diagram, other: Diagram, when: Diagram) -> Diagram:
        """Where they differ while `when`, in the states of both that can be as far as known."""
        wrong = self._manager.apply("xor", one, other) & when
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
