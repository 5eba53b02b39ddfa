"""The norm layer that a config names, out of the table of `normlab.tools.norms`."""

from collections.abc import Callable

from torch import nn

from normlab import errors
from normlab.lab.config import RunConfig
from normlab.tools.norms import NORMS, How, Where, misfit

# the norm layer of so many channels, or None in a network without norms
NormOf = Callable[[int], nn.Module | None]


def norm_layer(config: RunConfig, channels: int, spatial: int = 0) -> nn.Module | None:
    """The layer that `config.norm` names, or None for `none`.

    Args:
        config: which norm, and its settings.
        channels: size of the second dimension.
        spatial: dimensions of the positions: 0 at (N, C), 3 at (N, C, D, H, W).

    Raises:
        UsageError: the norm cannot stand there; of the data sets of the table the config has been checked already.

    Example:
        >>> norm_layer(RunConfig(norm="batch"), 16)
        BatchNorm1d(16, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    """
    if config.norm == "none":
        return None
    where, how = Where(channels, spatial), How(config.norm_eps, config.running_momentum, config.norm_groups)
    reason = misfit(config.norm, where, how)
    if reason:
        problem = errors.Problem(f"norm={config.norm} cannot stand there.", got=reason, fix="choose another norm.")
        raise errors.UsageError(errors.message(f"model.kind={config.model.kind}", problem))
    return NORMS[config.norm](where, how)
