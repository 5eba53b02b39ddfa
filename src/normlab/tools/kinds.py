"""Which norm a layer is."""

from torch import nn

from normlab.tools.norms import ChannelRMSNorm, ChannelsLast, NoNorm

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
}
ACROSS_CHANNELS = (nn.LocalResponseNorm, nn.CrossMapLRN2d)


def norms_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every norm of a model by name, one that stands at several places once, by the first of its names.

    What is called a norm and is not one of PyTorch's is among them, so that it is not passed over in silence.
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
    if isinstance(module, nn.GroupNorm) and module.num_groups == 1:
        return "layer" if type(module).forward is nn.GroupNorm.forward else None
    for base, kind in KINDS.items():
        if isinstance(module, base) and type(module).forward is base.forward:
            return kind
    return None


def why_kept(module: nn.Module) -> str:
    """Why no other norm can stand in the place of this one, whatever its kind; empty if one can."""
    if isinstance(module, ACROSS_CHANNELS):
        return "it normalizes across neighbouring channels, as no other norm does"
    if kind_of(module) is None:
        return f"{type(module).__name__} has a forward of its own, whose meaning is not known"
    inner = module.norm if isinstance(module, ChannelsLast) else module
    if nn.utils.parametrize.is_parametrized(inner):
        return "its weight is computed by a parametrization"
    if any(part._forward_hooks or part._forward_pre_hooks for part in {module, inner}):
        return "it has hooks, which would be lost"
    return ""


def _is_norm(module: nn.Module) -> bool:
    if isinstance(module, (*KINDS, ChannelsLast, *ACROSS_CHANNELS, nn.modules.batchnorm._NormBase)):
        return True
    return "norm" in type(module).__name__.lower() and not any(True for _ in module.children())
