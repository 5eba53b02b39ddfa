"""A network's layers with the arguments that they have in one pass."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from normlab import errors
from normlab.errors import Problem
from normlab.reference.batch_norm import batch_norm
from normlab.reference.dropout import dropout
from normlab.reference.layer import Layer, Shapes
from normlab.reference.network import Arrays, Network

Bound = tuple[Layer, dict[str, Any]]


def bound(
    where: str, net: Network, parameters: Arrays, running: Arrays, *, training: bool, seed: int, step: int
) -> list[Bound]:
    """Each layer with the arguments that it has in this pass, once they are known to fit."""
    problems = [
        *_named("parameters", parameters, net.parameter_shapes),
        *_named("running", running, net.running_shapes),
    ]
    errors.invalid_input(where, problems)

    chain: list[Bound] = []
    for layer in net.layers:
        found = {name: parameters[f"{layer.name}.{name}"].astype(net.dtype) for name in layer.shapes}
        found |= {name.rpartition(".")[2]: running[name] for name in layer.running_shapes}
        settings = {**layer.settings}
        if layer.op is dropout:
            settings["seed"] = dropout_seed(seed, step, layer.name)
        if layer.op in (batch_norm, dropout):
            settings["training"] = training
        chain.append((layer, found | settings))
    return chain


def dropout_seed(seed: int, step: int, layer: str) -> int:
    """The seed that the dropout layer of that name has in that step.

    Masks do not depend on the norm: networks that differ in it alone drop the same values.

    Example:
        >>> dropout_seed(0, 1, "layer1.dropout") == dropout_seed(0, 1, "layer2.dropout")
        False
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(step, *layer.encode()))
    return int(sequence.generate_state(1, np.uint64)[0])


def _named(argument: str, arrays: Arrays, shapes: Shapes) -> Iterator[Problem]:
    """Problems of names and shapes, those of the architecture being right."""
    missing, unknown = [name for name in shapes if name not in arrays], [name for name in arrays if name not in shapes]
    if missing or unknown:
        got = f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
        yield Problem(f"`{argument}` must have the names of the network's layers.", got=got)
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            got = errors.describe(**{name: arrays[name]})
            yield Problem(f"`{argument}[{name!r}]` must have shape {shape}.", got=got)
