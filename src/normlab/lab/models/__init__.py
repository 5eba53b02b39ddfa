"""Networks built from a config; the norm is chosen by the table of `lab.norms`."""

from collections.abc import Callable

import torch
from torch import nn

from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.models.conv import conv_net
from normlab.lab.models.mlp import mlp
from normlab.lab.streams import torch_stream

MODELS: dict[str, Callable[[RunConfig, Dataset], nn.Module]] = {"mlp": mlp, "conv": conv_net}


def build_model(config: RunConfig, data: Dataset) -> nn.Module:
    """The network that the config names, with its initial weights.

    Every linear and convolution layer draws from N(0, weight_std²) out of one stream, in order; norm layers draw
    nothing, so that variants of one seed start from the same weights to the bit.
    """
    model = MODELS[config.model.kind](config, data)
    stream = torch_stream(config.seed, "init")
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(layer.weight, 0.0, config.init.weight_std, generator=stream)
            if layer.bias is not None:
                torch.nn.init.constant_(layer.bias, config.init.bias)
    return model
