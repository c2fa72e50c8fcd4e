"""What a quantised model takes while it runs, part by part.

Formulae, all in bytes, for T = max(batch, min(chunk, context * batch)) tokens in one forward step:

    words, scales, transforms   as the checkpoint stores them, padding included
    embedding, head             rows * ceil(columns * bits / 8), and a bfloat16 scale per row
                                below 16 bits; tied, the one matrix counts as head
    other                       norms, biases and what else is carried, in its stored dtype
    kv_cache                    batch * sum over layers of 2 * kv_heads * head_dim * tokens
                                * kv_bits / 8; a sliding-window layer keeps its window only
    activations                 T * (2 * (2 * hidden + max over input groups of
                                (2 * inputs + outputs)) + 4 * longest stream in bits)
    logits                      4 * batch * vocabulary: float32, last token of each sequence
    reserve                     CUDA context, fragmentation, the runtime's own buffers

The activations are those of one block at its widest moment, in 16 bits: the residual and its
normalised copy, a group's input and its whitened copy, the outputs of the group; and the int32 sums
of one product before its projection, one per lifted bit. Attention is taken to keep no score
matrix, and layers to be multiplied in packed form, never decoded into memory.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from algo.code import LiftCode
from algo.errors import LiftError
from algo.footprint import (
    Layout,
    TensorShape,
    data_bytes,
    input_groups,
    scale_bytes,
    transform_bytes,
    word_bytes,
)
from algo.packing import stream_groups
from algo.shapes import ModelShapes

Place = Literal["gpu", "host"]
PLACES: tuple[Place, ...] = get_args(Place)
DEFAULT_RESERVE = 6 * 2**30 // 10
_ROW_SCALE = 2  # bytes of a bfloat16


@dataclass(frozen=True)
class Budget:
    """The memory there is, and what the model is to do in it.

    Attributes:
        total_bytes: memory of the GPU.
        context: tokens per sequence, prompt and answer together.
        batch: sequences at a time.
        kv_bits: bits per number in the KV cache.
        head_bits: bits per weight of the output layer (and of the embedding, if tied).
        embedding_bits: bits per weight of the token embedding.
        embedding: where the token embedding is kept; a tied one must be on the GPU.
        chunk: tokens of a prompt that go through the model at a time.
        reserve_bytes: what the runtime takes for itself.

    Raises:
        LiftError: a number is out of its range.
    """

    total_bytes: int
    context: int
    batch: int = 1
    kv_bits: int = 16
    head_bits: int = 16
    embedding_bits: int = 16
    embedding: Place = "gpu"
    chunk: int = 512
    reserve_bytes: int = DEFAULT_RESERVE

    def __post_init__(self) -> None:
        for what in ("total_bytes", "context", "batch", "chunk"):
            if getattr(self, what) < 1:
                raise LiftError(f"{what} must be at least 1, not {getattr(self, what)}")
        for what in ("kv_bits", "head_bits", "embedding_bits"):
            if not 2 <= getattr(self, what) <= 32:
                raise LiftError(f"{what} must be from 2 to 32, not {getattr(self, what)}")
        if self.embedding not in PLACES:
            raise LiftError(f"embedding {self.embedding!r} is none of {', '.join(PLACES)}")
        if self.reserve_bytes < 0:
            raise LiftError(f"reserve_bytes must not be negative, not {self.reserve_bytes}")

    @property
    def step_tokens(self) -> int:
        """T, the tokens of the largest forward step."""
        return max(self.batch, min(self.chunk, self.context * self.batch))


@dataclass(frozen=True)
class Memory:
    """Bytes on the GPU by part; `total` is their sum."""

    words: int
    scales: int
    transforms: int
    embedding: int
    head: int
    other: int
    kv_cache: int
    activations: int
    logits: int
    reserve: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def matrix_bytes(tensor: TensorShape, bits: int) -> int:
    """A head or embedding ``(rows, columns)`` in `bits` bits: whole bytes per row, and scales."""
    rows, columns = tensor.shape
    return rows * (-(-columns * bits // 8) + (_ROW_SCALE if bits < 16 else 0))


def embedding_bytes(shapes: ModelShapes, budget: Budget) -> int:
    """The token embedding, wherever it is kept; nothing where it is tied to the head."""
    if shapes.head is None:
        return 0
    return matrix_bytes(shapes.carried[shapes.embedding], budget.embedding_bits)


def kv_cache_bytes(shapes: ModelShapes, budget: Budget) -> int:
    """Keys and values of every sequence at its full length."""
    numbers = sum(cache.count(budget.context) for cache in shapes.caches)
    return -(-budget.batch * numbers * budget.kv_bits // 8)


def activation_bytes(
    shapes: ModelShapes, codes: Mapping[str, LiftCode], layout: Layout, budget: Budget
) -> int:
    """One block at its widest moment."""
    linears = shapes.linears
    widest = max(
        2 * linears[leader][1] + sum(linears[name][0] for name in members)
        for leader, members in input_groups(linears).items()
    )
    side = 1 if layout.axis == "in" else 0
    lifted = {(shape[side], codes[name]) for name, shape in linears.items()}
    sums = max(stream_groups(weights, code) * code.lifted for weights, code in lifted)
    return budget.step_tokens * (2 * (2 * shapes.hidden + widest) + 4 * sums)


def run_memory(
    shapes: ModelShapes, codes: Mapping[str, LiftCode], layout: Layout, budget: Budget
) -> Memory:
    """Every part of the memory that a model takes with these codes for its layers.

    Raises:
        LiftError: a layer is too narrow for its code.
    """
    linears = shapes.linears
    apart = {shapes.embedding, shapes.head, *shapes.tied}
    head = shapes.carried[shapes.head or shapes.embedding]
    return Memory(
        words=sum(word_bytes(shape, codes[n], layout.axis) for n, shape in linears.items()),
        scales=sum(scale_bytes(shape) for shape in linears.values()),
        transforms=transform_bytes(linears, layout),
        embedding=embedding_bytes(shapes, budget) if budget.embedding == "gpu" else 0,
        head=matrix_bytes(head, budget.head_bits),
        other=data_bytes({n: t for n, t in shapes.carried.items() if n not in apart}),
        kv_cache=kv_cache_bytes(shapes, budget),
        activations=activation_bytes(shapes, codes, layout, budget),
        logits=4 * budget.batch * shapes.vocabulary,
        reserve=budget.reserve_bytes,
    )
