"""What is no model, or has nothing of what is asked for, is refused by every scope."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from normlab.errors import InvalidInputError
from normlab.layers import accumulate, domain, functional_call, stats_frozen

SCOPES: dict[str, Callable[[Any], Any]] = {
    "stats_frozen": lambda model: stats_frozen(model).__enter__(),
    "accumulate": lambda model: accumulate(model, 2).__enter__(),
    "functional_call": lambda model: functional_call(model, {}),
    "domain": lambda model: domain(model, "real").__enter__(),
}


@pytest.mark.parametrize("name", SCOPES)
def test_no_model(name: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        SCOPES[name](None)
    assert str(raised.value) == (
        f"{name}: `model` must be a torch.nn.Module.\n  got: NoneType\n  fix: pass the model first."
    )


def test_no_domains() -> None:
    with pytest.raises(InvalidInputError) as raised:
        SCOPES["domain"](nn.BatchNorm1d(3))
    assert str(raised.value) == (
        "domain: `model` must have layers with domains.\n"
        "  got: BatchNorm1d\n"
        "  fix: build its norms as DomainBatchNorm2d(channels, domains=[…])."
    )
