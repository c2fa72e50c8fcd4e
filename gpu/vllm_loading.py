"""vLLM's own check that every parameter has come, for liftquant checkpoints.

By itself vLLM checks models that are not quantised, and serves others with memory as it was found.
Imported in an environment that has vLLM.
"""

import functools
from typing import Any

from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from algo.serving_config import METHOD


def check_what_came() -> None:
    """Have vLLM's loader check, unless the user tells it whether to.

    Its settings are read before anything of a quantisation method runs in the process that loads,
    so it is the loader that is asked here.
    """
    load = DefaultModelLoader.load_weights

    @functools.wraps(load)
    def load_weights(self: Any, model: Any, model_config: Any) -> None:
        if model_config.quantization == METHOD and self.enable_weights_track is None:
            self.enable_weights_track = True
        load(self, model, model_config)

    DefaultModelLoader.load_weights = load_weights
