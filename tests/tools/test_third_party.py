"""Networks of others, built small from their configs: swapped, frozen, recalibrated, synchronized."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.tolerances import RECALIBRATED
from torch import nn

from normlab.tools.called import tensors_in
from normlab.tools.freeze import freeze_, unfreeze_
from normlab.tools.kinds import kind_of, norms_of
from normlab.tools.recalibrate import recalibrate_
from normlab.tools.swap import swap_
from normlab.tools.sync import sync_, unsync_

SMALL = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
CONFIGS: dict[str, dict[str, Any]] = {
    "ResNet": SMALL | {"layer_type": "basic"},
    "RegNet": SMALL | {"groups_width": 4},
    "MobileNetV2": {"depth_multiplier": 0.25, "depth_divisible_by": 8, "min_depth": 8, "image_size": 32},
    "ConvNext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
}
# norms that hold running statistics, and those that cannot be swapped
BATCH_NORMS = {"ResNet": 6, "RegNet": 9, "MobileNetV2": 52, "ConvNext": 0, "U-Net": 6}
KEPT = {"ConvNext": 4, "U-Net": 1}  # a forward of its own; two channels cannot be in four groups

both = pytest.mark.parametrize("name", BATCH_NORMS)


@pytest.fixture(scope="module")
def build() -> Callable[[str], nn.Module]:
    transformers = pytest.importorskip("transformers")
    nets = pytest.importorskip("monai.networks.nets")

    def built(name: str) -> nn.Module:
        torch.manual_seed(0)
        if name == "U-Net":
            return nets.UNet(3, 1, 2, (8, 8, 16), (2, 2), num_res_units=1, norm="batch")
        return getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**CONFIGS[name]))

    return built


def batches(name: str) -> list[Any]:
    shape = (1, 16, 16, 16) if name == "U-Net" else (3, 32, 32)
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(samples, *shape, generator=generator) + samples for samples in (4, 4, 3)]
    return made if name == "U-Net" else [{"pixel_values": each} for each in made]


def called(model: nn.Module, batch: Any) -> list[torch.Tensor]:
    return list(tensors_in(model(**batch) if isinstance(batch, dict) else model(batch)))


@both
def test_swapped_to_group_norm(name: str, build: Callable[[str], nn.Module]) -> None:
    model, batch = build(name), batches(name)[0]
    count = len(norms_of(model))
    report = swap_(model, "group", example=batch, groups=4)
    assert len(report.touched) == count - KEPT.get(name, 0)
    assert all(each.reason for each in report.skipped)
    kinds = [kind_of(each) for each in norms_of(model).values()]
    assert kinds.count("group") == len(report.touched)
    ys = called(model.train(), batch)
    torch.autograd.backward([y for y in ys if y.requires_grad], [torch.randn_like(y) for y in ys if y.requires_grad])
    assert all(y.isfinite().all() for y in ys)


@both
def test_frozen_and_back(name: str, build: Callable[[str], nn.Module]) -> None:
    model = build(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = freeze_(model)
    assert len(report.touched) == BATCH_NORMS[name]
    for batch in batches(name):
        called(model.train(), batch)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert len(unfreeze_(model).touched) == BATCH_NORMS[name]
    called(model.train(), batches(name)[0])
    moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert len(moved) == 3 * BATCH_NORMS[name]  # mean, variance, count


@both
def test_recalibrated(name: str, build: Callable[[str], nn.Module]) -> None:
    """The first norm of each against the whole set at once; the others by the passes that it took them."""
    model = build(name)
    report = recalibrate_(model, batches(name), order="one_pass")
    assert len(report.touched) == BATCH_NORMS[name]
    holders = [each for each in norms_of(model).values() if getattr(each, "running_mean", None) is not None]
    if not holders:
        return
    seen: list[torch.Tensor] = []
    handle = holders[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().double()))
    for batch in batches(name):
        called(model.eval(), batch)
    handle.remove()
    values = torch.cat([each.transpose(0, 1).flatten(1) for each in seen], dim=1)
    for held, truth in ((holders[0].running_mean, values.mean(1)), (holders[0].running_var, values.var(1))):
        torch.testing.assert_close(held.double(), truth, rtol=RECALIBRATED, atol=RECALIBRATED)


@both
def test_synchronized_and_back(name: str, build: Callable[[str], nn.Module]) -> None:
    model, twin, batch = build(name), build(name), batches(name)[0]
    types = [type(each) for each in model.modules()]
    report = sync_(model)
    assert len(report.touched) == BATCH_NORMS[name]
    for y, expected in zip(called(model.train(), batch), called(twin.train(), batch), strict=True):
        torch.testing.assert_close(y, expected)  # one process alone
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in model.state_dict().items())
    unsync_(model)
    assert [type(each) for each in model.modules()] == types
