"""Look at a model and leave it as it was, to the bit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from normlab.lab.random_states import random_states, set_random_states


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restores modes, buffers and the random streams, whatever happens inside.

    Buffers are copied back in place, so that references to them stay valid. Parameters and their gradients are
    left to the caller, who must not write to them.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    before_all = random_states()
    try:
        yield
    finally:
        set_random_states(before_all)
        for module, training in modes:
            if module.training != training:  # setting an attribute of a module is slow
                module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
