"""Which layer reads what: one run of a model on an example, seen value by value."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from normlab.tools.called import call, tensors_in
from normlab.tools.reached import left_alone

HELD = "a tensor that the model holds"
# these read the numbers without any operation of PyTorch that could be seen
ESCAPES = {
    "numpy", "__array__", "tolist", "data_ptr", "storage", "untyped_storage", "_typed_storage", "__dlpack__",
    "__reduce_ex__", "share_memory_", "__set__",
}  # fmt: skip


@dataclass(frozen=True)
class Use:
    """One reading of a value: by what, and inside which layers, the innermost last."""

    by: str
    within: tuple[nn.Module, ...] = field(default=(), repr=False)


@dataclass(eq=False)
class Value:
    """A tensor of the run: what made it, and everything that did something with it.

    `maker` is an operation, `call` the innermost layer that made and returned it. `uses` has all who read or changed
    it, `passed` the layers and functions that gave it back as they had got it, as dropout does in eval mode.
    """

    maker: str
    call: "Call | None" = None
    uses: list[Use] = field(default_factory=list)
    passed: list[nn.Module | str] = field(default_factory=list)


@dataclass(eq=False)
class Call:
    """One call of a layer: the first tensor that went in, and its shape; None if none did."""

    module: nn.Module
    inputs: list[Value]
    shape: tuple[int, ...]
    outputs: list[Value] = field(default_factory=list)


class Flow:
    """What a run showed. Tensors are not kept alive by it."""

    def __init__(self) -> None:
        self.values: Any = WeakTensorKeyDictionary()
        self.calls: dict[nn.Module, list[Call]] = {}
        self.stack: list[Call] = []
        self.function = ""  # what the operations seen at present are steps of

    def value(self, tensor: torch.Tensor, maker: str = HELD) -> Value:
        """What is known of a tensor."""
        found: Value | None = self.values.get(tensor)
        if found is None:
            found = self.values[tensor] = Value(maker)
        return found

    def read(self, tensors: Iterable[torch.Tensor], by: str) -> None:
        use = Use(by, tuple(each.module for each in self.stack))
        for tensor in tensors:
            self.value(tensor).uses.append(use)


def trace(model: nn.Module, example: Any, training: bool = False) -> Flow:
    """Runs the model once in eval mode, and sees who makes and who reads each value, whatever the control flow is.

    Seen are layers, functions and methods, single operations (those inside scripted functions too), what is returned,
    and what somebody still holds after the run, as a hook does that collects features. The model, its modes, buffers,
    hooks and the random state are afterwards as before. Not seen is who takes a value through `Tensor.as_subclass`,
    which is neither a function nor an operation to PyTorch.

    Args:
        model: a network that is not compiled or scripted.
        example: what it is called with (`call`).
        training: run it in train mode instead.

    Returns:
        Every call of a layer, and the uses of every value.

    Raises:
        What the model raises on the example.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.ReLU())
        >>> value = trace(model, torch.zeros(1, 2)).calls[model[0]][0].outputs[0]
        >>> [(each.by, type(each.within[-1]).__name__) for each in value.uses], value.passed
        ([('relu', 'ReLU')], ['dropout', Dropout(p=0.5, inplace=False)])
    """
    flow = Flow()
    for tensor in tensors_in(example):
        flow.value(tensor, "outside the model")
    with left_alone(model), _watched(model, flow):
        model.train(training)
        with _Functions(flow), _Operations(flow):
            output = call(model, example)
        flow.read(tensors_in(output), "the caller of the model")
        del output
    if _alive(flow):
        gc.collect()  # what only a circle of references holds goes away
    for value in _alive(flow):
        value.uses.append(Use("somebody who keeps it after the run"))
    return flow


@contextmanager
def _watched(model: nn.Module, flow: Flow) -> Iterator[None]:
    def enter(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [*tensors_in(inputs), *tensors_in(named)]
        flow.stack.append(Call(module, list(map(flow.value, tensors)), tuple(tensors[0].shape) if tensors else ()))

    def leave(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        done = flow.stack.pop()
        flow.calls.setdefault(module, []).append(done)
        done.outputs = list(map(flow.value, tensors_in(output)))
        for value in done.outputs:
            if value in done.inputs:
                value.passed.append(module)
            elif value.call is None:
                value.call = done

    handles = []
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Functions(TorchFunctionMode):
    """Sees calls of Python: their names, and what never becomes an operation."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        flow, outer = self.flow, self.flow.function
        name = getattr(func, "__name__", "a function")
        flow.function = name.partition(".")[0].strip("_")
        if name in ("__get__", "__set__"):
            flow.function = getattr(getattr(func, "__self__", None), "__name__", name)
        try:
            output = func(*args, **(kwargs or {}))
            read, made = list(tensors_in((args, kwargs))), list(tensors_in(output))
            passed = [each for each in made if any(each is other for other in read)]
            for tensor in passed:
                flow.value(tensor).passed.append(flow.function)
            if name in ESCAPES:
                flow.read(read, flow.function)
            for tensor in made:
                flow.value(tensor, flow.function)
            return output
        finally:
            flow.function = outer


class _Operations(TorchDispatchMode):
    """Sees every operation that touches numbers, whoever called it."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flow = flow

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = self.flow.function or func.overloadpacket.__name__.partition(".")[0].strip("_")
        self.flow.read(tensors_in((args, kwargs)), name)
        for tensor in tensors_in(output):
            self.flow.value(tensor, name)
        return output


def _alive(flow: Flow) -> list[Value]:
    """What was made by a layer and did not go away with the run."""
    return [value for value in flow.values.values() if value.call is not None]
