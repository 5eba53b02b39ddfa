"""PyTorch's own samples of its norms, passed through ours."""

from typing import Any

import pytest
import torch
from tests.layers.catalogue import kernels_of_any_size
from tests.tolerances import TORCH
from torch import nn
from torch.testing._internal.common_modules import module_db

from normlab import layers

# importing the samples freezes the settings of torch.backends for the whole process, and other tests change them
torch.backends.flags_frozen.__globals__["__allow_nonbracketed_mutation_flag"] = True

NORMS = [info for info in module_db if getattr(layers, info.name.removeprefix("nn."), None)]
both = pytest.mark.parametrize("info", NORMS, ids=lambda info: info.name)


def test_every_norm_is_there() -> None:
    ours = {name for name, each in vars(layers).items() if isinstance(each, type)}
    stock = {name for name in ours if hasattr(nn, name)}
    assert stock - {info.name.removeprefix("nn.") for info in NORMS} == {"SyncBatchNorm"}  # of several processes
    assert len(NORMS) == 9


@pytest.mark.parametrize(
    ("info", "by_kernel"),
    [pytest.param(info, by_kernel, id=f"{info.name}{' by kernel' if by_kernel else ''}")
     for info in NORMS for by_kernel in ((False, True) if "BatchNorm" in info.name else (False,))],
)  # fmt: skip
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_samples(info: Any, by_kernel: bool, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_kernel:
        kernels_of_any_size(monkeypatch)
    ours = getattr(layers, info.name.removeprefix("nn."))
    samples = info.module_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=True, training=training)
    assert samples
    for sample in samples:
        made, called = sample.constructor_input, sample.forward_input
        found = []
        for kind in (ours, info.module_cls):
            layer = kind(*made.args, **made.kwargs).double().train(training)
            inputs = [each.detach().clone().requires_grad_() for each in called.args]
            y = layer(*inputs)
            y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y))
            grads = [each.grad for each in (*inputs, *layer.parameters())]
            # an empty batch has no statistics: PyTorch counts it, and ours commits nothing
            statistics = layer.state_dict().values() if y.numel() else ()
            found.append([y, *grads, *statistics])
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=TORCH, atol=TORCH)


@both
def test_errors(info: Any) -> None:
    if info.module_error_inputs_func is None:
        pytest.skip("PyTorch has no samples of what it refuses")
    ours = getattr(layers, info.name.removeprefix("nn."))
    for training in (True, False):
        for sample in info.module_error_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=False, training=training
        ):
            given = sample.module_error_input
            with pytest.raises(sample.error_type, match=sample.error_regex):
                ours(*given.constructor_input.args, **given.constructor_input.kwargs)(*given.forward_input.args)
