"""The valid bits of a pipeline whose stages move when they are empty or their successor moves."""

from amaranth.hdl import Module, Signal, Value


def stage_moves(
    m: Module, stages: int, valid: Value, ready: Value
) -> tuple[list[Signal], list[Signal]]:
    """Drive the valid bits of `stages` registers between a source and a sink.

    Args:
        m: the module they are added to.
        stages: at least 1.
        valid: the source has an item; it may leave where the first stage moves.
        ready: the sink takes the item of the last stage, where that is valid.

    Returns:
        For every stage its valid bit, and the condition on which it moves.
    """
    valids = [Signal(name=f"valid_{s}") for s in range(stages)]
    moves = [Signal(name=f"move_{s}") for s in range(stages)]
    for s, (held, move) in enumerate(zip(valids, moves, strict=True)):
        following = moves[s + 1] if s + 1 < stages else ready
        m.d.comb += move.eq(~held | following)
        with m.If(move):
            m.d.sync += held.eq(valids[s - 1] if s else valid)
    return valids, moves
