"""What an operation in a graph may change in its place."""

from collections.abc import Mapping
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd, _MaxPoolNd

from normlab.tools.activations import AddAndActivate
from normlab.tools.fold_maths import is_weight_layer
from normlab.tools.forwards import IN_PLACE
from normlab.tools.plain import is_identity

POOLS = (_AdaptiveAvgPoolNd, _AvgPoolNd, _MaxPoolNd)


def origins(value: Any, layers: Mapping[str, nn.Module]) -> set[fx.Node]:
    """Every node whose memory a value may lie in."""
    found: set[fx.Node] = set()
    waiting: list[fx.Node] = []
    fx.node.map_arg(value, waiting.append)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            if not (node.op == "call_module" and _is_pure(layers[str(node.target)])):
                waiting += node.all_input_nodes
    return found


def writes(node: fx.Node, layers: Mapping[str, nn.Module]) -> bool:
    """Whether an operation may change what it gets."""
    if node.op == "call_module":
        module = layers[str(node.target)]
        return not (_is_pure(module) or is_identity(module))
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    home = "torch" if isinstance(node.target, str) else str(getattr(node.target, "__module__", None) or "torch")
    if home.partition(".")[0] not in ("torch", "_operator", "builtins") or name in (*IN_PLACE, "setitem", "delitem"):
        return True
    told = any(each is True for each in node.args) or bool(node.kwargs.get("inplace")) or "out" in node.kwargs
    return told or name.endswith("_")


def _is_pure(module: nn.Module) -> bool:
    """Whether a layer writes into nothing that it gets, and puts out new memory."""
    known = type(module).__module__.startswith(("torch.nn.", "normlab."))
    return known and (is_weight_layer(module) or isinstance(module, (_NormBase, AddAndActivate, *POOLS)))
