"""Dropout in a run: seeded by the run, and not disturbed by measuring."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from normlab.lab.config import Model, RunConfig
from normlab.lab.data import load_data
from normlab.lab.models import build_model
from normlab.lab.streams import stream_seed, torch_stream
from normlab.lab.train import run

CONFIG = RunConfig(model=Model(depth=1, width=8, activation="relu", dropout=0.5), epochs=2, train_samples=200, seed=3)


def plain_loop() -> nn.Module:
    data = load_data("digits", 0, 200)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    model = build_model(CONFIG, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(3, "dropout"))
        for epoch in (1, 2):
            for rows in torch.randperm(200, generator=torch_stream(3, f"order {epoch}")).split(64):
                gradients = torch.autograd.grad(
                    functional.cross_entropy(model(x[rows]), y[rows]), list(model.parameters())
                )
                with torch.no_grad():
                    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                        parameter.sub_(gradient, alpha=0.1)
    return model


def test_the_weights_are_those_of_a_plain_loop_with_the_same_masks(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = plain_loop().state_dict()
    torch.set_num_threads(threads)
    run(CONFIG, tmp_path / "run", lambda status, metric: None)
    found = load_file(tmp_path / "run" / "weights.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_a_run_leaves_the_random_state_of_its_caller(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(CONFIG, tmp_path / "run", lambda status, metric: None)
    assert torch.equal(torch.get_rng_state(), before)
