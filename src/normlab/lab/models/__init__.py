"""Networks built from a config; the norm is chosen by the table of `lab.norms`."""

import math
from collections.abc import Callable

import torch
from torch import nn

from normlab import errors
from normlab.lab.config import Init, Model, RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.fit import SPATIAL
from normlab.lab.models.conv import conv
from normlab.lab.models.densenet import densenet
from normlab.lab.models.lenet import lenet
from normlab.lab.models.mlp import mlp
from normlab.lab.models.resnet import resnet
from normlab.lab.models.seeded_dropout import SeededDropout
from normlab.lab.models.volumes import volumes
from normlab.lab.norms import NormOf, norm_layer
from normlab.lab.streams import stream_seed, torch_stream

# (shape of one sample, outputs, norm of so many channels, settings) → network
MODELS: dict[str, Callable[[tuple[int, ...], int, NormOf, Model], nn.Module]] = {
    "mlp": mlp,
    "conv": conv,
    "lenet": lenet,
    "resnet": resnet,
    "densenet": densenet,
    "volumes": volumes,
}


def build_model(config: RunConfig, data: Dataset) -> nn.Module:
    """The network that the config names, with its initial weights.

    Every linear and convolution layer draws out of one stream, in order; norm layers draw nothing, so that variants of
    one seed start from the same weights to the bit. They are drawn in float32 whatever `dtype` is, so that both start
    from the same numbers.

    Raises:
        UsageError: the samples of a data set of the user's do not fit the network or its norm.
    """
    kind = config.model.kind
    sample: tuple[int, ...] = data.x_train.shape[1:]
    spatial = SPATIAL.get(kind, 0)
    if kind in SPATIAL and len(sample) != 1 + spatial:
        rule = f"samples must have {1 + spatial} dimensions, the channels and {spatial} of positions."
        problem = errors.Problem(rule, got=f"samples of shape {sample}", fix="use model.kind=mlp.")
        raise errors.UsageError(errors.message(f"model.kind={kind}", problem))

    def norm(channels: int) -> nn.Module | None:
        return norm_layer(config, channels, spatial)

    model = MODELS[kind](sample, data.outputs, norm, config.model)
    _draw_weights(model, config.init, torch_stream(config.seed, "init"))
    seed = stream_seed(config.seed, "dropout")
    for name, module in model.named_modules():
        if isinstance(module, SeededDropout):
            module.name, module.seed = name, seed
    return model.to(torch.float64 if config.dtype == "float64" else torch.float32)


def _draw_weights(model: nn.Module, init: Init, stream: torch.Generator) -> None:
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            std = math.sqrt(2 / layer.weight[0].numel()) if init.scheme == "he" else init.weight_std
            nn.init.normal_(layer.weight, 0.0, std, generator=stream)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, init.bias)
