"""Records what passes at a decoder's ports, cycle by cycle, in Amaranth's simulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from algo.errors import LiftError

STALL = 3  # cycles


@dataclass(frozen=True)
class Recording:
    """Values of ports in every cycle, as they are at the rising edge that ends it.

    Attributes:
        levels: by port, ``i__valid`` and the like.
        beats: by stream, ``i`` and the like, for every cycle the number of the beat that is
            offered: how many were transferred before; None where valid is low.
    """

    levels: Mapping[str, tuple[int, ...]]
    beats: Mapping[str, tuple[int | None, ...]]

    def moved(self, stream: str) -> list[int]:
        """The cycles at whose end a beat of a stream is transferred."""
        valid, ready = self.levels[f"{stream}__valid"], self.levels[f"{stream}__ready"]
        return [cycle for cycle, both in enumerate(zip(valid, ready, strict=True)) if all(both)]


def record(
    component: Any,
    inputs: Mapping[str, Sequence[int]],
    cycles: int,
    stalled: int,
    watched: Sequence[str] = (),
) -> Recording:
    """Simulate a component with the output stream ``o``, and keep what its ports do.

    Args:
        component: elaborated here, so it cannot be used again.
        inputs: by stream the payloads to send; each is valid from the second cycle until its last.
        cycles: how many to simulate.
        stalled: the output beat, counted from 0, that is not taken for its first `STALL` cycles.
        watched: further output ports of one bit.
    """
    from amaranth.sim import Simulator

    kept: dict[str, list[int]] = {}
    beats: dict[str, list[int | None]] = {}

    async def testbench(context: Any) -> None:
        sent = dict.fromkeys([*inputs, "o"], 0)
        waited = 0

        def see(port: str, signal: Any) -> int:
            value = int(context.get(signal))
            kept.setdefault(port, []).append(value)
            return value

        for cycle in range(cycles):
            for name, payloads in inputs.items():
                stream, more = getattr(component, name), cycle and sent[name] < len(payloads)
                context.set(stream.valid, int(bool(more)))
                if more:
                    context.set(stream.payload, payloads[sent[name]])
            due = sent["o"] == stalled and waited < STALL and context.get(component.o.valid)
            waited += bool(due)
            context.set(component.o.ready, int(not due))
            for name in list(sent):
                stream = getattr(component, name)
                valid = see(f"{name}__valid", stream.valid)
                taken = see(f"{name}__ready", stream.ready)
                see(f"{name}__payload", stream.payload)
                beats.setdefault(name, []).append(sent[name] if valid else None)
                sent[name] += valid & taken
            for port in watched:
                see(port, getattr(component, port))
            await context.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return Recording(
        {port: tuple(values) for port, values in kept.items()},
        {name: tuple(values) for name, values in beats.items()},
    )


def check_output(recording: Recording, expected: Sequence[int], masks: Sequence[int]) -> None:
    """Compare every beat that was offered at ``o`` with the reference.

    Args:
        recording: of a decoder.
        expected: payloads, beat by beat.
        masks: the bits that mean something, beat by beat of a stream.

    Raises:
        LiftError: a beat differs.
    """
    for beat, payload in zip(recording.beats["o"], recording.levels["o__payload"], strict=True):
        if beat is None:
            continue
        if beat >= len(expected) or (payload ^ expected[beat]) & masks[beat % len(masks)]:
            raise LiftError(
                f"simulated for its timing diagram, the decoder's output beat {beat} is not what "
                "the reference gives; no picture was drawn"
            )
