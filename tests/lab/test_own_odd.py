"""Networks of the user's that share layers, or draw numbers wherever they like."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.lab.own_code import write as write

from normlab.lab import load, planned_runs, with_words
from normlab.lab.config import RunConfig
from normlab.lab.recipes.own import own_recipe
from normlab.lab.record import Status
from normlab.lab.train import run

CODE = """
    import random
    import numpy as np
    import torch
    from torch import nn

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.again = self.first
            self.norm = nn.BatchNorm1d(4)
            self.tied = nn.Linear(4, 4, bias=False)
            self.tied.weight = self.first.weight
            self.turned = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
            self.output = nn.Linear(4, 2)

        def forward(self, x):
            if self.training:
                noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1) + 0.1 * torch.randn(())
                x = x + noise
            return self.output(self.turned(self.tied(torch.tanh(self.norm(self.again(self.first(x)))))))

    def load():
        x = np.random.default_rng(0).normal(size=(40, 4))
        return x[:30], x[:30].argmax(1) % 2, x[30:], x[30:].argmax(1) % 2
"""


class StopHereError(Exception):
    pass


@pytest.fixture
def config(write: Callable[..., Path]) -> RunConfig:
    path = write(CODE)
    words = [f"data={path}:load", "norm=batch", "seeds=1", "epochs=4", "batch=8", "task=classification"]
    return planned_runs(with_words(own_recipe(f"{path}:Odd"), words))[0].config


def ignore(status: Status, metric: float | None) -> None:
    pass


def test_shared_and_tied_layers_are_saved(config: RunConfig, tmp_path: Path) -> None:
    assert run(config, tmp_path / "run", ignore).state == "done"
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    assert torch.equal(weights["first.weight"], weights["tied.weight"])
    assert torch.equal(weights["first.weight"], weights["again.weight"])
    gradients = load(tmp_path / "run").runs[0].metrics[-1]["gradient_norm"]
    assert gradients["first"] > 0
    assert "turned" not in gradients  # a parametrized weight has no gradient of its own


def test_what_is_drawn_from_any_stream_repeats(config: RunConfig, tmp_path: Path) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    run(config, tmp_path / "whole", ignore)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])

    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)

    def stop(status: Status, metric: float | None) -> None:
        if status.epoch == 2:
            raise StopHereError

    with pytest.raises(StopHereError):
        run(config, tmp_path / "cut", stop, checkpoint_seconds=-1)
    run(config, tmp_path / "cut", ignore)
    for name in ("weights.safetensors", "histograms.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
