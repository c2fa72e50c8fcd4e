"""A model run block by block over text, with one block's weights in memory at a time.

Blocks are the numbered modules that hold the layers to quantise (``model.layers.7``). One pass with
the blocks cut out records what each is called with besides the hidden states (masks, rotary
tables), so that blocks can be run one by one later, whatever the architecture.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from algo.errors import LiftError
from algo.precision import short_products
from algo.source import Source, empty_model

_BLOCK = re.compile(r"(?:.*?\.)?\d+(?=\.)")

Hidden = list[torch.Tensor]  # hidden states, float32 (windows, context, width), one per batch


class _Reached(Exception):
    """Ends a forward pass at the layer it was run for."""


def block_of(name: str) -> str:
    """The block a layer or tensor belongs to: its name up to the first number; "" for none."""
    match = _BLOCK.match(name)
    return match.group() if match else ""


def blocks_of(names: list[str]) -> dict[str, list[str]]:
    """Layers by block, in the order given."""
    blocks: dict[str, list[str]] = {}
    for name in names:
        blocks.setdefault(block_of(name), []).append(name)
    return blocks


class StagedModel:
    """A model whose blocks are loaded, run and dropped one at a time, in float32.

    Args:
        source: where tensors come from.
        windows: int64 ``(windows, context)``; every forward pass below is over windows of
            this length, in batches of `batch`.

    Raises:
        LiftError: the model calls its blocks in a way that cannot be recorded.
    """

    def __init__(self, source: Source, windows: torch.Tensor, batch: int = 4) -> None:
        self._source = source
        self.network = empty_model(source.config)
        self.blocks = list(blocks_of(source.linears))
        inside = tuple(f"{name}." for name in self.blocks)
        outside = {
            name: source.tensor(name).float()
            for name in source.tensor_names()
            if not name.startswith(inside)
        }
        self.network.load_state_dict(outside, strict=False, assign=True)
        self.network.tie_weights()  # type: ignore[operator]
        self.network.eval().requires_grad_(False)
        self._keywords: dict[tuple[str, int], dict[str, Any]] = {}
        self._parts = torch.split(windows, batch)
        self.inputs: Hidden = []
        self._record()

    def _record(self) -> None:
        """Run the model with every block replaced by one that notes how it is called."""
        blocks = {name: self.network.get_submodule(name) for name in self.blocks}
        for name, block in blocks.items():
            block.forward = self._noting(name)
        try:
            with torch.no_grad():
                for part in self._parts:
                    self.network(input_ids=part, use_cache=False)
        finally:
            for block in blocks.values():
                del block.forward  # the class's own again

    def _noting(self, name: str) -> Callable[..., torch.Tensor]:
        def forward(hidden: torch.Tensor, *args: Any, **keywords: Any) -> torch.Tensor:
            if args:
                raise LiftError(
                    f"block {name} takes more than the hidden states by position; calibration "
                    "does not know this architecture, quantise with --calib none"
                )
            self._keywords.setdefault((name, len(hidden)), keywords)
            if name == self.blocks[0]:
                self.inputs.append(hidden.clone())
            return hidden

        return forward

    def load(self, name: str) -> nn.Module:
        """A block with its weights, float32, in memory of its own."""
        block = self.network.get_submodule(name)
        prefix = f"{name}."
        tensors = {
            tensor.removeprefix(prefix): self._source.tensor(tensor).float()
            for tensor in self._source.tensor_names()
            if tensor.startswith(prefix)
        }
        block.load_state_dict(tensors, assign=True)
        return block.requires_grad_(False)

    def drop(self, name: str) -> None:
        """Free a block's weights."""
        block = self.network.get_submodule(name)
        hollow = {k: v.to("meta") for k, v in block.state_dict().items()}
        block.load_state_dict(hollow, assign=True)

    def run(self, name: str, block: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """One batch through one block, or through a copy of it."""
        with short_products():
            result = block(hidden, **self._keywords[name, len(hidden)])
        out: torch.Tensor = result[0] if isinstance(result, tuple) else result
        return out.float()

    def head(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of batch `index` from the last block's output: what follows the blocks."""
        block = self.network.get_submodule(self.blocks[-1])
        others = [self.network.get_submodule(name) for name in self.blocks[:-1]]
        for other in others:
            other.forward = lambda state, **_: state
        block.forward = lambda state, **_: hidden
        try:
            with short_products():
                logits: torch.Tensor = self.network(
                    input_ids=self._parts[index], use_cache=False
                ).logits
        finally:
            for changed in (block, *others):
                del changed.forward
        return logits.float()

    def input_groups(self, name: str, block: nn.Module) -> list[list[str]]:
        """Linear layers that are called with the same tensor, in the order of their calls."""
        prefix = f"{name}."
        members = [n for n in self._source.linears if n.startswith(prefix)]
        groups: dict[int, list[str]] = {}
        kept = []  # holds the tensors, so that no address is used twice

        def hook(layer: str) -> Callable[..., None]:
            def look(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
                kept.append(args[0])
                groups.setdefault(id(args[0]), []).append(layer)

            return look

        with _hooked(block, {m.removeprefix(prefix): hook(m) for m in members}), torch.no_grad():
            self.run(name, block, self.inputs[0])
        return list(groups.values())

    def layer_inputs(
        self, name: str, block: nn.Module, layer: str, hidden: torch.Tensor
    ) -> torch.Tensor:
        """Inputs of one layer, ``(tokens, n)``; the block is run no further than there."""
        caught = []

        def hook(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            caught.append(args[0])
            raise _Reached

        with (
            _hooked(block, {layer.removeprefix(f"{name}."): hook}),
            torch.no_grad(),
            suppress(_Reached),
        ):
            self.run(name, block, hidden)
        if not caught:
            raise LiftError(f"layer {layer} is not used on the calibration text")
        return caught[0].reshape(-1, caught[0].shape[-1]).float()


@contextmanager
def _hooked(block: nn.Module, hooks: dict[str, Callable[..., None]]) -> Iterator[None]:
    """Call a function before each of the named layers, for as long as the context lasts."""
    handles = [block.get_submodule(n).register_forward_pre_hook(h) for n, h in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
