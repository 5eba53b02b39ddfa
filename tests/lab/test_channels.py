"""The channels that are worked out, against those of the networks that are built."""

import pytest
from tests.lab.networks import TINY, built, tiny
from torch import nn

from normlab.lab.channels import densenet_channels, norm_channels
from normlab.lab.models.block import Block


def channels(model: nn.Module) -> list[int]:
    """Of every norm of a network with batch norm, in order."""
    norms = [module.norm for module in model.modules() if isinstance(module, Block) and module.norm is not None]
    return [norm.num_features for norm in norms]


@pytest.mark.parametrize("kind", list(TINY))
def test_every_norm_has_channels_that_are_known_without_building(kind: str) -> None:
    for larger in (False, True):
        more = {"resnet": {"depth": 14}, "densenet": {"depth": 16, "growth": 3}, "volumes": {"depth": 3}}
        config = tiny(kind, "batch", model=more.get(kind, {"width": 6}) if larger else {})
        model = config.model
        found = channels(built(config))
        assert found
        assert set(found) == set(norm_channels(kind, model.depth, model.width, model.growth))


@pytest.mark.parametrize(("depth", "growth"), [(10, 8), (16, 3), (22, 5)])
def test_the_norms_of_a_densenet_are_known_in_order(depth: int, growth: int) -> None:
    model = built(tiny("densenet", "batch", model={"depth": depth, "growth": growth}))
    assert tuple(channels(model)) == densenet_channels(depth, growth)


def test_nothing_is_known_of_a_network_of_the_users() -> None:
    assert norm_channels("own", 8, 64, 12) == ()
