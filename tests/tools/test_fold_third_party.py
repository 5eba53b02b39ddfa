"""Networks of others, built small from their configs, with statistics as after training."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.tolerances import FOLD
from torch import nn

from normlab.tools.called import tensors_in
from normlab.tools.drop_bias import drop_bias_
from normlab.tools.fold import fold_
from normlab.tools.kinds import norms_of
from normlab.tools.report import Report

RUNNING = (nn.modules.batchnorm._BatchNorm,)
FROM_INPUT = "its statistics are taken from the input, so that it is no fixed scale and shift"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are several times faster so when both cores run tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in model.modules():
            if isinstance(each, nn.modules.batchnorm._NormBase):
                if each.running_mean is not None:
                    each.running_mean.normal_(generator=generator)
                    each.running_var.uniform_(0.2, 3, generator=generator)
                if each.weight is not None:
                    each.weight.normal_(generator=generator)
                    each.bias.normal_(generator=generator)
    return model


def outputs(model: nn.Module, example: Any) -> list[torch.Tensor]:
    with torch.no_grad():
        called = model.eval()(**example) if isinstance(example, dict) else model.eval()(example)
        return [each.double().clone() for each in tensors_in(called)]


def folded(model: nn.Module, example: Any) -> Report:
    """Folds, and checks the outputs and that every norm is spoken of."""
    names = list(norms_of(model))
    before = outputs(model, example)
    assert before
    report = fold_(model, example)
    after = outputs(model, example)
    worst = max(float((x - y).abs().max() / x.abs().max()) for x, y in zip(before, after, strict=True))
    assert worst <= FOLD
    assert report.error is None or abs(report.error - worst) <= FOLD
    assert sorted([each.name for each in report.touched] + [each.name for each in report.skipped]) == sorted(names)
    assert all(each.reason for each in report.skipped)
    return report


IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
VOLUME = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "config", "norms"),
    [
        ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "bottleneck"}, 14),
        ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "basic"}, 10),
        ("RegNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "groups_width": 4}, 12),
        ("MobileNetV2", {"depth_multiplier": 0.25, "depth_divisible_by": 4, "min_depth": 4, "image_size": 32}, 52),
    ],
    ids=["ResNet bottleneck", "ResNet basic", "RegNet", "MobileNetV2"],
)
def test_every_norm_of_these_is_folded(name: str, config: dict[str, Any], norms: int) -> None:
    transformers = pytest.importorskip("transformers")
    model = drawn(getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**config)))
    report = folded(model, {"pixel_values": IMAGE})
    assert (len(report.touched), report.skipped) == (norms, ())
    assert not any(isinstance(each, RUNNING) for each in model.modules())


def test_the_norms_of_a_convnext_are_layer_norms() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    report = folded(transformers.ConvNextModel(config), {"pixel_values": IMAGE})
    own = "ConvNextLayerNorm has a forward of its own, whose meaning is not known"
    assert [each.reason for each in report.skipped] == [own] * 4 + [FROM_INPUT]
    assert not report.touched


@pytest.mark.parametrize(
    ("norm", "folds"),
    [
        ("batch", 6),
        ("instance", 0),
        (("instance", {"track_running_stats": True, "affine": True}), 6),
        (("group", {"num_groups": 1}), 0),
    ],
    ids=["batch", "instance", "instance with statistics", "group"],
)
def test_a_volume_u_net(norm: Any, folds: int) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    model = drawn(nets.UNet(3, 1, 2, (4, 8, 16), (2, 2), num_res_units=1, norm=norm))
    report = folded(model, VOLUME)
    assert len(report.touched) == folds
    assert [each.reason for each in report.skipped] == [FROM_INPUT] * (6 - folds)
    if folds:
        assert {type(each) for each in model.modules() if "Norm" in type(each).__name__} == set()
        into = [each.change for each in report.touched]
        assert "into model.2.0.conv before it" in into  # a transposed convolution


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_biases_of_a_volume_u_net(norm: str) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    model = drawn(nets.UNet(3, 1, 2, (4, 8, 16), (2, 2), num_res_units=1, norm=norm))
    before = outputs(model, VOLUME)
    train = copy.deepcopy(model).train()
    report = drop_bias_(model, VOLUME)
    after = outputs(model, VOLUME)
    assert len(report.touched) == 6
    assert float((before[0] - after[0]).abs().max() / before[0].abs().max()) <= FOLD
    with torch.no_grad():
        one, other = train(VOLUME), model.train()(VOLUME)
    assert float((one - other).abs().max() / one.abs().max()) <= FOLD
