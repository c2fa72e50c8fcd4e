"""Machine code as text to instructions, and the loops among them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from algo.errors import LiftError


class Instruction(NamedTuple):
    """One instruction: `opcode` with its modifiers, whether a predicate guards it, operands."""

    opcode: str
    guarded: bool
    operands: str


class Code(NamedTuple):
    """A kernel: its instructions in order, and where each label points."""

    instructions: tuple[Instruction, ...]
    labels: dict[str, int]


@dataclass(frozen=True)
class Loop:
    """A loop: indices of all its instructions, and the loops inside it."""

    nodes: frozenset[int]
    inner: tuple["Loop", ...]

    @property
    def own(self) -> frozenset[int]:
        """Its instructions outside the loops inside it."""
        return self.nodes.difference(*(loop.nodes for loop in self.inner))

    def all(self) -> list["Loop"]:
        """The loop and those inside it."""
        return [self, *(found for loop in self.inner for found in loop.all())]


_LABEL = re.compile(r"^\s*([.$\w]+):")
_SASS = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s*\{?\s*(@!?\w+\s+)?([A-Z][\w.]*)\s*([^;]*);")
_AMD = re.compile(r"^\s+([a-z][a-z0-9_]+)\b\s*([^;]*)")
_TARGET = re.compile(r"`\(([.$\w]+)\)|(?<=[\s,\"])(\.L[\w$]+)")


def parse_sass(text: str) -> Code:
    """What ``nvdisasm -c`` prints of one kernel.

    Raises:
        LiftError: it holds no instructions, or more than one function.
    """
    instructions: list[Instruction] = []
    labels = {}
    for line in text.splitlines():
        if match := _SASS.match(line):
            instructions.append(Instruction(match[2], match[1] is not None, match[3].strip()))
        elif match := _LABEL.match(line):
            labels[match[1]] = len(instructions)
    if not instructions:
        raise LiftError("the disassembly holds no instructions; this nvdisasm is not supported")
    if len(re.findall(r"^\s*\.section\s+\.text\.", text, re.MULTILINE)) > 1:
        raise LiftError("the disassembly holds several functions; inline what the kernel calls")
    return Code(tuple(instructions), labels)


def parse_amdgcn(text: str) -> Code:
    """AMD assembly of one kernel, as LLVM prints it.

    Raises:
        LiftError: it holds no instructions, or more than one function.
    """
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    body, ended, rest = text.partition("\n.Lfunc_end0:")
    for line in body.splitlines():
        if match := _LABEL.match(line):
            labels[match[1]] = len(instructions)
        elif match := _AMD.match(line):
            instructions.append(Instruction(match[1], False, match[2].strip()))
    if not instructions or not ended:
        raise LiftError("the assembly holds no finished function; this Triton is not supported")
    if ".Lfunc_end1:" in rest:
        raise LiftError("the assembly holds several functions; inline what the kernel calls")
    return Code(tuple(instructions), labels)


def successors(code: Code) -> list[tuple[int, ...]]:
    """Where each instruction may go next, as indices.

    A call goes to what it calls and past itself, because NVIDIA's assembler also writes jumps out
    of loops as calls. The slow path of ``BRA.DIV``, for warps that lost step, is left out.
    """
    found = []
    for at, instruction in enumerate(code.instructions):
        name = instruction.opcode.partition(".")[0]
        goes, falls = False, True
        if name.startswith("s_"):
            goes = "branch" in name
            falls = name not in ("s_branch", "s_endpgm", "s_setpc_b64")
        elif name in ("BRA", "JMP", "BRX", "BRXU", "JMX"):
            goes = ".DIV" not in instruction.opcode
            # BRA.U UP0, `(.L_x_1) carries its condition among its operands
            falls = instruction.guarded or (name in ("BRA", "JMP") and "," in instruction.operands)
        elif name == "CALL":
            goes = True
        elif name in ("EXIT", "RET", "KILL"):
            falls = instruction.guarded
        targets = _targets(instruction.operands, code.labels) if goes else []
        if goes and not targets and name != "CALL":
            raise LiftError(f"a jump names no label: {instruction.opcode} {instruction.operands}")
        ahead = [at + 1] if falls and at + 1 < len(code.instructions) else []
        found.append(tuple(dict.fromkeys(targets + ahead)))
    return found


def _targets(operands: str, labels: dict[str, int]) -> list[int]:
    names = [a or b for a, b in _TARGET.findall(f" {operands}")]
    missing = [name for name in names if name not in labels]
    if missing:
        raise LiftError(f"the machine code jumps to {missing[0]!r}, which it does not hold")
    return [labels[name] for name in names]


def reachable(edges: list[tuple[int, ...]]) -> frozenset[int]:
    """Indices that control can come to from the first instruction."""
    seen, waiting = {0}, [0]
    while waiting:
        for following in edges[waiting.pop()]:
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    return frozenset(seen)


def loops(edges: list[tuple[int, ...]]) -> tuple[Loop, ...]:
    """The outermost loops that control can come to, in order; loops of one header are one."""
    return _loops_within(reachable(edges), edges, frozenset())


def _loops_within(
    nodes: frozenset[int], edges: list[tuple[int, ...]], closed: frozenset[int]
) -> tuple[Loop, ...]:
    """The loops that `nodes` still hold when nothing goes to `closed`, the headers around them."""
    found = []
    for component in _components(nodes, edges, closed):
        entered = {to for at in nodes - component for to in edges[at] if to in component}
        headers = frozenset(entered) | (component & {0})
        found.append(Loop(component, _loops_within(component, edges, headers)))
    return tuple(sorted(found, key=lambda loop: min(loop.nodes)))


def _components(
    nodes: Iterable[int], edges: list[tuple[int, ...]], closed: frozenset[int]
) -> list[frozenset[int]]:
    """Strongly connected components with an edge inside, edges into `closed` left out (Tarjan)."""
    inside = frozenset(nodes)
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found = []

    def following(at: int) -> list[int]:
        return [to for to in edges[at] if to in inside and to not in closed]

    for root in sorted(inside):
        if root in order:
            continue
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        path = [(root, iter(following(root)))]
        while path:
            at, rest = path[-1]
            for to in rest:
                if to not in order:
                    order[to] = low[to] = len(order)
                    stack.append(to)
                    on_stack.add(to)
                    path.append((to, iter(following(to))))
                    break
                if to in on_stack:
                    low[at] = min(low[at], order[to])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[at])
                if low[at] == order[at]:
                    component = set()
                    while at not in component:
                        top = stack.pop()
                        on_stack.discard(top)
                        component.add(top)
                    if len(component) > 1 or at in following(at):
                        found.append(frozenset(component))
    return found
