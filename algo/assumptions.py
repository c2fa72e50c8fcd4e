"""What a plan takes for granted, in sentences to print beside its figures."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from algo.budget import Budget
from algo.footprint import data_bytes
from algo.sizes import format_size

if TYPE_CHECKING:
    from algo.shapes import ModelShapes


def assumptions(shapes: "ModelShapes", budget: Budget) -> Iterator[str]:
    """One sentence for each thing that the figures of a plan depend on."""
    yield (
        f"The whole {format_size(budget.total_bytes)} is this process's, less a reserve of "
        f"{format_size(budget.reserve_bytes)} for the CUDA context, fragmentation and the runtime."
    )
    yield (
        f"KV cache: {budget.batch} x {budget.context} tokens in {budget.kv_bits} bits"
        + (", scales of a quantised cache not counted." if budget.kv_bits < 16 else ".")
    )
    windowed = sum(cache.window is not None for cache in shapes.caches)
    if windowed:
        yield f"{windowed} of {len(shapes.caches)} layers keep a window of the context only."
    if shapes.longest is not None and budget.context > shapes.longest:
        yield f"The model was made for {shapes.longest} tokens; the context is longer."
    yield (
        f"Activations: steps of {budget.step_tokens} tokens, one block in 16 bits, attention "
        "without a score matrix, products on the packed weights. Not measured on a GPU."
    )
    yield from _embeddings(shapes, budget)
    stored = {str(t.dtype).removeprefix("torch.") for t in shapes.carried.values()}
    yield (
        f"On disk, what is not quantised is {', '.join(sorted(stored))} ({shapes.dtypes_from}); "
        "sizes on disk are of the .safetensors files."
    )
    fused = {n: t for n, t in shapes.carried.items() if len(t.shape) > 2}
    if fused:
        yield (
            f"{len(fused)} tensors of three or more dimensions (fused experts, say) hold "
            f"{format_size(data_bytes(fused))}; they are carried unquantised, and the activations "
            "inside them are not counted."
        )
    yield (
        "Allocated: the higher rate goes to the first and the last block, then to the down "
        "projections, then to the rest from the outer blocks inwards, while it fits; no "
        "sensitivity is known from a config."
    )


def _embeddings(shapes: "ModelShapes", budget: Budget) -> Iterator[str]:
    if shapes.head is None:
        yield f"The head is the embedding (tied): one matrix, {budget.head_bits} bits, on the GPU."
    else:
        place = "on the GPU" if budget.embedding == "gpu" else "in the host's memory"
        yield (
            f"Head in {budget.head_bits} bits on the GPU, embedding in {budget.embedding_bits} "
            f"bits {place}."
        )
    if budget.head_bits < 16 or (shapes.head is not None and budget.embedding_bits < 16):
        yield (
            "Below 16 bits they have one bfloat16 scale per row. `quantize` stores them as they "
            "are; the runtime has to convert them when it loads."
        )
