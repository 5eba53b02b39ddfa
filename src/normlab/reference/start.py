"""What a network starts from."""

import numpy as np
from jaxtyping import Float, Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.built_network import BuiltNetwork
from normlab.reference.network import Network


def init_parameters(
    net: Network, seed: int, *, weight_scale: float | None = None
) -> dict[str, Float[np.ndarray, "..."]]:
    """Weights of linear maps from N(0, weight_scale²), those of norms 1, all biases 0.

    Norms draw nothing, so that networks which differ in their norm alone start from the same weights.

    Args:
        net: The architecture.
        seed: The same seed draws the same weights; in float32 they are those of float64, rounded.
        weight_scale: Standard deviation of the weights; None for the network's own, which a `Sequential` has not.

    Returns:
        The parameters by name, in the order of the layers.

    Raises:
        InvalidInputError: There is no `weight_scale`, or it is negative.

    Example:
        >>> from normlab.reference import FullyConnected
        >>> start = init_parameters(FullyConnected(4, (3,), 2, norm="layer"), seed=0)
        >>> {name: values.shape for name, values in start.items() if name.endswith("weight")}
        {'layer1.weights.weight': (3, 4), 'layer1.norm.weight': (3,), 'output.weight': (2, 3)}
    """
    scale = net.weight_scale if weight_scale is None and isinstance(net, BuiltNetwork) else weight_scale
    if scale is None:
        rule = "`weight_scale` must be given for a network that has none of its own."
        problem = Problem(rule, got=f"{type(net).__name__}; weight_scale = None", fix="pass weight_scale=0.1.")
        raise errors.InvalidInputError(errors.message("init_parameters", problem))
    errors.invalid_input("init_parameters", checks.not_negative(weight_scale=scale))
    rng = np.random.default_rng(seed)
    parameters = {}
    for layer in net.layers:
        for name, shape in layer.parameter_shapes.items():
            if name.endswith(".bias"):
                start = np.zeros(shape)
            else:
                start = rng.normal(0.0, scale, shape) if layer.is_linear else np.ones(shape)
            parameters[name] = start.astype(net.dtype)
    return parameters


def init_running(net: Network) -> dict[str, Float64[np.ndarray, " c"]]:
    """Running means 0 and running variances 1, as in torch; empty without batch norm.

    Args:
        net: The architecture.

    Example:
        >>> from normlab.reference import FullyConnected
        >>> init_running(FullyConnected(4, (2,), 2, norm="batch"))
        {'layer1.norm.running_mean': array([0., 0.]), 'layer1.norm.running_var': array([1., 1.])}
    """
    return {
        name: np.ones(shape) if name.endswith("running_var") else np.zeros(shape)
        for name, shape in net.running_shapes.items()
    }
