"""A network of the user's in a run: made under the seed, each time a new one, with its norms swapped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.lab.own_code import write as write
from torch import nn

from normlab.errors import UsageError
from normlab.lab.config import Init, Model, RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.network import described_network, network
from normlab.lab.own_model import own_model

Write = Callable[..., Path]

NETS = """
    import copy
    import random
    import numpy as np
    import torch
    from torch import nn

    def mlp():
        return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def grouped():
        return nn.Sequential(nn.Linear(2, 8), nn.GroupNorm(2, 8, eps=0.5), nn.GroupNorm(1, 8), nn.Linear(8, 3))

    def lazy():
        return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))

    def drawn():
        model = mlp()
        with torch.no_grad():
            model[0].weight.fill_(random.random() + np.random.rand())
        return model

    ONE = mlp()

    def same():
        return ONE

    def part():
        return nn.Sequential(ONE[0], nn.BatchNorm1d(8))

    def copied():
        return copy.deepcopy(ONE)

    def compiled():
        return torch.compile(mlp(), backend="eager")

    def nothing():
        mlp()

    class Named(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(2, 2, 4, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 1)

        def forward(self, x):
            return self.encoder(x[:, None], src_key_padding_mask=torch.zeros(len(x), 1, dtype=bool))[:, 0]
"""


@pytest.fixture
def nets(write: Write) -> Path:
    return write(NETS)


def config(nets: Path, function: str, **settings: object) -> RunConfig:
    model = Model(kind="own", factory=f"{nets}:{function}")
    return RunConfig.model_validate({"data": "blobs", "model": model, "init": Init(scheme="own"), **settings})


def data(x: np.ndarray | None = None) -> Dataset:
    x = np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32) if x is None else x
    return Dataset("theirs", "classification", x, np.arange(10) % 3, x, np.arange(10) % 3, 3)


def refusal(chosen: RunConfig, chosen_data: Dataset) -> str:
    with pytest.raises(UsageError) as caught:
        own_model(chosen, chosen_data)
    return str(caught.value)


def test_the_norms_are_those_of_the_config(nets: Path) -> None:
    chosen = config(nets, "mlp", norm="group", norm_groups=4, norm_eps=0.5)
    model, report = network(chosen, data())
    assert repr(model[1]) == repr(nn.GroupNorm(4, 8, 0.5))
    assert report is not None
    assert [each.name for each in report.touched] == ["1"]
    assert all(each.training for each in model.modules())
    said = described_network(model, report)
    assert said["swapped"]["swapped"][0] == {
        "name": "1", "before": "BatchNorm1d(8)", "after": "GroupNorm(4, 8)",
    }  # fmt: skip
    assert (said["parameters"], said["buffers"]) == (2 * 8 + 8 + 16 + 8 * 3 + 3, 0)


@pytest.mark.parametrize("function", ["mlp", "lazy", "drawn", "copied", "Named"])
def test_all_variants_of_a_seed_start_from_the_same_weights(nets: Path, function: str) -> None:
    torch.manual_seed(7)
    first = torch.rand(3)
    torch.manual_seed(7)
    found = []
    for norm, seed in (("batch", 1), ("layer", 1), ("none", 1), ("batch", 2)):
        torch.rand(len(found))  # whatever was drawn before
        model, _ = own_model(config(nets, function, norm=norm, seed=seed), data())
        found.append(
            torch.cat([each.detach().flatten() for name, each in model.named_parameters() if "1." not in name])
        )
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[0], found[3]) == (function == "copied")  # which draws nothing
    torch.manual_seed(7)
    own_model(config(nets, function), data())
    assert torch.equal(torch.rand(3), first)


def test_lazy_statistics_are_untouched(nets: Path) -> None:
    model, _ = own_model(config(nets, "lazy", norm="batch"), data())
    assert torch.equal(model[1].running_mean, torch.zeros(8))
    assert int(model[1].num_batches_tracked) == 0


def test_dtype_is_that_of_the_run(nets: Path) -> None:
    x = np.zeros((10, 2))
    for dtype in ("float32", "float64"):
        model, _ = own_model(config(nets, "lazy", norm="rms", dtype=dtype), data(x))
        assert {str(each.dtype) for each in model.parameters()} == {f"torch.{dtype}"}


def test_settings_that_are_asked_for_hold_for_norms_that_stay(nets: Path) -> None:
    def layers(**settings: object) -> list[tuple[int, float]]:
        model, _ = own_model(config(nets, "grouped", norm="group", **settings), data())
        return [(each.num_groups, each.eps) for each in (model[1], model[2])]

    assert layers(norm_groups=4, norm_eps=0.25) == [(4, 0.25), (4, 0.25)]
    assert layers(norm_groups=4) == [(4, 0.5), (4, 1e-5)]
    assert layers(norm_eps=0.25, norm_groups=2) == [(2, 0.25), (2, 0.25)]
    model, _ = own_model(config(nets, "mlp", norm="batch", norm_momentum=0.25), data())
    assert model[1].momentum == 0.25
    model, _ = own_model(config(nets, "mlp", norm="batch", norm_momentum="pooled"), data())
    assert model[1].momentum == 0.1


def test_encoders_compute_padded_positions_too(nets: Path) -> None:
    """A nested tensor has no shape, and what is recorded must have one."""
    model, _ = own_model(config(nets, "Encoder", norm="layer"), data())
    assert not model.encoder.use_nested_tensor


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("nothing", "the function must return a torch.nn.Module.\n  got: NoneType"),
        (
            "ONE",
            "this is a network, not a function that makes one.\n"
            "  fix: write a function that returns a new one each time.",
        ),
        (
            "compiled",
            "the network must not be compiled, scripted or wrapped, as its layers are swapped and watched.\n"
            "  got: OptimizedModule\n  fix: return it as it was before that.",
        ),
    ],
)
def test_what_is_no_network_is_refused(nets: Path, function: str, text: str) -> None:
    assert refusal(config(nets, function), data()) == f"{nets}:{function}: {text}"


@pytest.mark.parametrize("function", ["same", "part"])
def test_a_network_that_has_been_in_a_run_is_refused(nets: Path, function: str) -> None:
    own_model(config(nets, function, norm="batch"), data())
    assert refusal(config(nets, function, norm="layer"), data()) == (
        f"{nets}:{function}: the function must return a new network each time, as every run trains one of its own.\n"
        "  got: the same Linear a second time\n"
        "  fix: build its layers in the function, or return copy.deepcopy of what is loaded once."
    )


@pytest.mark.parametrize(
    ("x", "fix"),
    [
        (np.zeros((10, 5), dtype=np.float32), "one batch is x (4, 5) float32 cpu."),
        (
            np.arange(20).reshape(10, 2),
            "x is integers from 0 to 7, x (4, 2) int64 cpu; return floats, unless the network begins with an "
            "Embedding.",
        ),
        (
            np.ones((10, 2), dtype=np.uint8),
            "x is integers, x (4, 2) uint8 cpu; convert it to floats, for instance x / 255.",
        ),
    ],
    ids=["shape", "int64", "uint8"],
)
@pytest.mark.parametrize("function", ["mlp", "lazy"])
def test_a_network_that_does_not_take_the_data_says_what_it_got(
    nets: Path, x: np.ndarray, fix: str, function: str
) -> None:
    if function == "lazy" and x.dtype.kind == "f":
        return  # which takes any number of features
    first, *_, last = refusal(config(nets, function), data(x)).splitlines()
    assert first.startswith(f"{nets}:{function}: the network does not take the data: it raised RuntimeError: mat1 and")
    assert last == f"  fix: {fix}"
