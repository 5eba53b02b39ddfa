"""Which norm a layer is."""

from torch import nn

from normlab import layers
from normlab.tools.frozen import class_before
from normlab.tools.norms import ChannelRMSNorm, ChannelsLast, NoNorm, norm_in

# a subclass is of the kind of its base as long as it keeps that one's `forward`
KINDS: dict[type[nn.Module], str] = {
    NoNorm: "none",
    nn.BatchNorm1d: "batch",
    nn.BatchNorm2d: "batch",
    nn.BatchNorm3d: "batch",
    nn.SyncBatchNorm: "batch",
    nn.LayerNorm: "layer",
    nn.GroupNorm: "group",
    nn.InstanceNorm1d: "instance",
    nn.InstanceNorm2d: "instance",
    nn.InstanceNorm3d: "instance",
    nn.RMSNorm: "rms",
    ChannelRMSNorm: "rms",
    **dict.fromkeys((layers.BatchNorm1d, layers.BatchNorm2d, layers.BatchNorm3d, layers.SyncBatchNorm), "batch"),
    **dict.fromkeys((layers.BatchRenorm1d, layers.BatchRenorm2d, layers.BatchRenorm3d), "batch"),
    **dict.fromkeys((layers.GhostBatchNorm1d, layers.GhostBatchNorm2d, layers.GhostBatchNorm3d), "batch"),
    **dict.fromkeys((layers.InstanceNorm1d, layers.InstanceNorm2d, layers.InstanceNorm3d), "instance"),
    layers.LayerNorm: "layer",
    layers.GroupNorm: "group",
    layers.RMSNorm: "rms",
}
DOMAINS = (layers.DomainBatchNorm1d, layers.DomainBatchNorm2d, layers.DomainBatchNorm3d)
ACROSS_CHANNELS = (nn.LocalResponseNorm, nn.CrossMapLRN2d)


def norms_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every norm of a model by name, one that stands at several places once, by the first of its names.

    What is called a norm or has running statistics and is not one of PyTorch's is among them, so that it is not passed
    over in silence.
    """
    inside = {
        part
        for holder in model.modules()
        if isinstance(holder, ChannelsLast | nn.utils.parametrize.ParametrizationList)
        for part in holder.modules()
        if part is not holder
    }
    return {name: module for name, module in model.named_modules() if module not in inside and _is_norm(module)}


def kind_of(module: nn.Module) -> str | None:
    """The name of the norm that this layer is; None if its meaning is not known.

    Example:
        >>> kind_of(nn.GroupNorm(4, 8)), kind_of(nn.GroupNorm(1, 8)), kind_of(nn.LocalResponseNorm(2))
        ('group', 'layer', None)
    """
    if isinstance(module, ChannelsLast):
        return kind_of(module.norm)
    forward = own_type(module).forward
    if isinstance(module, nn.GroupNorm) and module.num_groups == 1:
        return "layer" if forward in (nn.GroupNorm.forward, layers.GroupNorm.forward) else None
    for base, kind in KINDS.items():
        if isinstance(module, base) and forward is base.forward:
            return kind
    return None


def described(module: nn.Module) -> str:
    """Type and sizes, without the settings.

    Example:
        >>> described(ChannelsLast(nn.BatchNorm1d(8))), described(nn.LayerNorm(8))
        ('BatchNorm1d(8) over the last dimension', 'LayerNorm(8)')
    """
    if isinstance(module, ChannelsLast):
        return f"{described(module.norm)} over the last dimension"
    sizes = [
        ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name in ("num_groups", "num_channels", "num_features", "normalized_shape", "channels", "size")
        if (value := getattr(module, name, None)) is not None
    ]
    name = f"{type(module).__name__}({', '.join(sizes)})" if sizes else type(module).__name__
    return f"{name}, which is layer norm" if isinstance(module, nn.GroupNorm) and kind_of(module) == "layer" else name


def own_type(module: nn.Module) -> type[nn.Module]:
    """The class of a layer, or the one that it had before it was frozen."""
    return class_before(module) or type(module)


def does_more(module: nn.Module) -> bool:
    """Whether this is a batch norm that also adds a residual or activates.

    Example:
        >>> does_more(layers.BatchNormAct1d(8)), does_more(layers.BatchNorm1d(8))
        (True, False)
    """
    with_more = layers.BatchNormAct1d, layers.BatchNormAct2d, layers.BatchNormAct3d
    return isinstance(module, with_more) and own_type(module).forward is layers.BatchNormAct1d.forward


def why_kept(module: nn.Module) -> str:
    """Why no other norm can stand in the place of this one, whatever its kind; empty if one can."""
    if isinstance(module, ACROSS_CHANNELS):
        return "it normalizes across neighbouring channels, as no other norm does"
    if kind_of(module) is None:
        return f"{type(module).__name__} {why_unknown(module)}"
    return why_bound(module)


def why_bound(module: nn.Module) -> str:
    """Why something else than its kind keeps a norm where it is; empty if nothing does."""
    inner = norm_in(module)
    if nn.utils.parametrize.is_parametrized(inner):
        return "its weight is computed by a parametrization"
    if any(part._forward_hooks or part._forward_pre_hooks for part in {module, inner}):
        return "it has hooks, which would be lost"
    return ""


def why_unknown(module: nn.Module) -> str:
    """Why a layer is of no kind, as what is said of it."""
    if isinstance(module, DOMAINS):
        return "has statistics for several domains, and is another norm in each"
    if does_more(module):
        return "does what follows it as well, which no other norm does"
    return "has a forward of its own, whose meaning is not known"


def _is_norm(module: nn.Module) -> bool:
    if isinstance(module, (*KINDS, ChannelsLast, *ACROSS_CHANNELS, nn.modules.batchnorm._NormBase)):
        return True
    if any(name == "running_mean" for name, _ in module.named_buffers(recurse=False)):
        return True
    return "norm" in type(module).__name__.lower() and not any(True for _ in module.children())
