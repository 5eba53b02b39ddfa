"""What is no model is refused by every tool, with what was given and what to do."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from normlab import tools
from normlab.errors import InvalidInputError

TOOLS: dict[str, Callable[[Any], Any]] = {
    "swap_": lambda model: tools.swap_(model, "group"),
    "fold_": lambda model: tools.fold_(model, nn.Linear(2, 2)),
    "drop_bias_": lambda model: tools.drop_bias_(model, None),
    "freeze_": lambda model: tools.freeze_(model),
    "unfreeze_": lambda model: tools.unfreeze_(model, "layer1"),
    "sync_": lambda model: tools.sync_(model),
    "unsync_": lambda model: tools.unsync_(model),
    "param_groups": lambda model: tools.param_groups(model, 0.1),
}


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(("model", "got"), [(None, "NoneType"), ([nn.Linear(2, 2)], "list"), ("group", "str")])
def test_what_is_no_model_is_refused(name: str, model: Any, got: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        TOOLS[name](model)
    assert str(raised.value) == (
        f"{name}: `model` must be a torch.nn.Module.\n  got: {got}\n  fix: pass the model first."
    )
