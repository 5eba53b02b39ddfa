"""Norms made ours and fused: the same values, gradients and statistics as those of PyTorch, in training too."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.tolerances import TRAINING
from tests.tools.blocks import NETWORKS, SHOWN, Residual
from torch import Tensor, nn

from normlab import accelerate_
from normlab.layers.batch_norm_act import BatchNormActOptions
from normlab.layers.explicit import Explicit
from normlab.tools.called import tensors_in
from normlab.tools.kinds import norms_of
from normlab.tools.report import Report


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """In float64, with weights and statistics of norms that are not those of new ones."""
    torch.manual_seed(0)
    model = make().double()
    with torch.no_grad():
        for each in norms_of(model).values():
            for tensor in (*each.parameters(), *each.buffers()):
                if tensor.is_floating_point():
                    tensor.uniform_(0.5, 1.5)
    return model


def steps(model: nn.Module, x: Tensor, count: int = 2) -> list[Tensor]:
    """Outputs of steps of SGD with random upstream gradients, the parameters and statistics after them, evaluation."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    found: list[Tensor] = []
    model.train()
    for _ in range(count):
        optimizer.zero_grad()
        outputs = list(tensors_in(model(x.clone())))
        torch.autograd.backward(outputs, [torch.randn_like(each) for each in outputs])
        optimizer.step()
        found += [each.detach() for each in outputs]
    found += [each.detach().clone() for each in model.state_dict().values()]
    found += [each.detach() for each in tensors_in(model.eval()(x.clone()))]
    model.train()
    return found


def assert_same(model: nn.Module, twin: nn.Module, x: Tensor) -> None:
    for one, other in zip(steps(model, x), steps(twin, x), strict=True):
        torch.testing.assert_close(one, other, rtol=TRAINING, atol=TRAINING)


def changes(report: Report) -> list[str]:
    return [each.change for each in report.touched]


@pytest.mark.parametrize("given", [True, False], ids=["with an example", "without"])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_trains_as_the_stock_model(name: str, given: bool) -> None:
    make, x, expected = NETWORKS[name]
    model = built(make)
    twin = copy.deepcopy(model)
    classes = [type(each) for each in model.modules()]
    report = accelerate_(model, x if given else None)
    assert changes(report) == expected
    assert report.skipped == ()
    assert (report.error is None) is not given
    assert [each for _, each in model.named_modules() if isinstance(each, Explicit)] == list(norms_of(model).values())
    assert all(isinstance(each, its_class) for each, its_class in zip(model.modules(), classes, strict=True))
    assert_same(model, twin, x)
    assert list(model.state_dict()) == list(twin.state_dict())
    model.load_state_dict(built(make).state_dict())
    twin.load_state_dict(model.state_dict())
    assert_same(model, twin, x)


@pytest.mark.parametrize("name", SHOWN)
def test_what_an_example_shows(name: str) -> None:
    make, x, expected = SHOWN[name]
    model = built(make)
    twin = copy.deepcopy(model)
    report = accelerate_(model, x)
    assert changes(report) == expected
    assert report.error == 0
    assert_same(model, twin, x)
    alone = copy.deepcopy(twin)
    assert changes(accelerate_(alone)) != expected
    assert_same(alone, twin, x)


def test_once_more_changes_nothing() -> None:
    for make, x, expected in NETWORKS.values():
        model = built(make)
        accelerate_(model, x)
        twin, classes = copy.deepcopy(model), [type(each) for each in model.modules()]
        report = accelerate_(model, x)
        assert report.touched == ()
        assert all(each.same for each in report.skipped)
        if expected[0] == "ours, with relu":
            assert report.skipped[0].reason == "it is ours already, with relu"
        assert [type(each) for each in model.modules()] == classes
        assert_same(model, twin, x)


def test_an_example_afterwards_shows_more() -> None:
    make, x, expected = SHOWN["dense"]
    model = built(make)
    twin = copy.deepcopy(model)
    accelerate_(model)
    report = accelerate_(model, x)
    assert changes(report) + [each.reason for each in report.skipped] == ["ours, with relu"] * 4 + [
        "it is ours already, with relu"
    ]
    assert len(expected) == 5
    assert_same(model, twin, x)


def test_what_refers_to_a_layer_still_does() -> None:
    model = built(lambda: nn.Sequential(Residual(3, 4), nn.BatchNorm2d(4), nn.ReLU()))
    seen: list[str] = []
    model[0].register_forward_hook(lambda *_: seen.append("block"))
    model[0].conv1.register_forward_hook(lambda *_: seen.append("convolution"))
    parameters, children = list(model.parameters()), list(model.modules())
    accelerate_(model, torch.randn(3, 3, 4, 4).double())
    seen.clear()
    model(torch.randn(3, 3, 4, 4).double())
    assert seen == ["convolution", "block"]
    assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))
    assert all(one is other for one, other in zip(children, model.modules(), strict=True))
    late: list[Tensor] = []
    model[2].register_forward_hook(lambda _, inputs, output: late.append(output))
    y = model(torch.randn(3, 3, 4, 4).double())
    assert torch.equal(late[0], y)  # who looks behind an activation later on sees what it did


OTHERS: list[tuple[Callable[[], nn.Module], Tensor]] = [
    (lambda: nn.LayerNorm(6), torch.randn(4, 6)),
    (lambda: nn.LayerNorm((3, 6), elementwise_affine=False), torch.randn(4, 3, 6)),
    (lambda: nn.GroupNorm(2, 6), torch.randn(4, 6, 3)),
    (lambda: nn.RMSNorm(6), torch.randn(4, 6)),
    (lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True), torch.randn(4, 6, 3, 3)),
    (lambda: nn.BatchNorm1d(6, momentum=None), torch.randn(4, 6)),
    (lambda: nn.BatchNorm2d(6, affine=False, track_running_stats=False), torch.randn(4, 6, 2, 2)),
]


@pytest.mark.parametrize(("make", "x"), OTHERS, ids=lambda each: "")
def test_each_norm_becomes_ours(make: Callable[[], nn.Module], x: Tensor) -> None:
    model, x = nn.Sequential(built(make), nn.ReLU()), x.double()
    twin, theirs = copy.deepcopy(model), type(model[0])
    report = accelerate_(model, x)
    fused = isinstance(model[0], BatchNormActOptions)
    assert fused == isinstance(model[0], nn.modules.batchnorm._BatchNorm)
    assert changes(report) == ["ours, with relu" if fused else "ours"]
    assert isinstance(model[0], theirs)
    assert type(model[0]).__module__.startswith("normlab.layers")
    if list(model.parameters()):
        assert_same(model, twin, x)
    torch.testing.assert_close(model(x), twin(x), rtol=TRAINING, atol=TRAINING)


class Quiet(nn.BatchNorm1d):
    """A subclass that leaves the forward alone."""

    def extra_repr(self) -> str:
        return "quiet"


class Twice(nn.BatchNorm1d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class First(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(0, 1)).transpose(0, 1)


class Own(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, 0.1)


class RootMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


class LikeLlamaRMSNorm(RootMean):
    def forward(self, input: Tensor) -> Tensor:
        return self.weight * input * (input.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def parametrized() -> nn.Module:
    norm = nn.BatchNorm1d(4)
    nn.utils.parametrize.register_parametrization(norm, "weight", nn.Softplus())
    return norm


NO_OWN = "has a forward of its own that does not call the one it inherits"
SUBCLASSES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "quiet": (lambda: Quiet(4), "ours, with relu"),
    "calls super": (lambda: Twice(4), "ours"),
    "layer norm that calls super": (lambda: First(5), "ours"),
    "own forward": (lambda: Own(4), f"Own {NO_OWN}"),
    "no norm of PyTorch": (
        LikeLlamaRMSNorm,
        "LikeLlamaRMSNorm is none of the norms that have a counterpart in `normlab.layers`",
    ),
    "parametrized": (parametrized, "its weight is computed by a parametrization"),
}


@pytest.mark.parametrize("name", SUBCLASSES)
def test_subclasses_keep_what_they_do(name: str) -> None:
    make, expected = SUBCLASSES[name]
    x = torch.randn(5, 4).double()
    model = nn.Sequential(make().double(), nn.ReLU())
    twin = nn.Sequential(make().double(), nn.ReLU())
    twin.load_state_dict(model.state_dict())
    theirs = type(model[0])
    report = accelerate_(model, x)
    assert changes(report) + [each.reason for each in report.skipped] == [expected]
    assert isinstance(model[0], theirs)
    assert model[0].extra_repr().startswith(twin[0].extra_repr())
    assert_same(model, twin, x)


@pytest.mark.parametrize("kind", ["gelu", "silu", "swish", "relu", "leaky_relu"])
def test_activations_of_others(kind: str) -> None:
    activations = pytest.importorskip("transformers.activations").ACT2FN
    model = nn.Sequential(nn.BatchNorm1d(4), activations[kind]).double()
    twin, x = copy.deepcopy(model), torch.randn(5, 4).double()
    assert changes(accelerate_(model)) == [f"ours, with {kind.replace('swish', 'silu')}"]
    assert_same(model, twin, x)


@pytest.mark.parametrize("kind", ["gelu_python", "gelu_pytorch_tanh", "gelu_10", "quick_gelu", "relu6", "tanh"])
def test_activations_that_only_sound_like_one(kind: str) -> None:
    activations = pytest.importorskip("transformers.activations").ACT2FN
    model = nn.Sequential(nn.BatchNorm1d(4), activations[kind]).double()
    twin, x = copy.deepcopy(model), torch.randn(5, 4).double()
    assert changes(accelerate_(model, x)) == ["ours"]
    assert_same(model, twin, x)


def test_the_whole_model_is_a_norm_or_a_forward() -> None:
    norm = nn.BatchNorm2d(3)
    assert changes(accelerate_(norm)) == ["ours"]
    assert type(norm).__module__ == "normlab.layers.batch_norm"
    model = built(lambda: Residual(3, 3))
    twin = copy.deepcopy(model)
    assert changes(accelerate_(model)) == ["ours, with relu", "ours, with add and relu"]
    assert_same(model, twin, torch.randn(4, 3, 4, 4).double())


def test_mixed_precision_keeps_its_dtypes() -> None:
    for model in (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), Residual(4, 4)), Residual(4, 4)):
        twin, x = copy.deepcopy(model), torch.randn(4, 4, 4, 4)  # float32: another dtype than what the norm puts out
        accelerate_(model, x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            one, other = model(x), twin(x)
        assert one.dtype == other.dtype == torch.bfloat16
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["residual", "functions", "sums", "nested"])
def test_others_may_follow_it_in_a_graph(name: str) -> None:
    make, x, _ = NETWORKS[name]
    model = built(make)
    twin = copy.deepcopy(model)
    accelerate_(model)
    followed = torch.fx.symbolic_trace(model)
    for training in (True, False):
        torch.testing.assert_close(followed.train(training)(x), twin.train(training)(x), rtol=TRAINING, atol=TRAINING)


class Broadcast(nn.Module):
    """What is added has one value a channel, as after squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.silu(self.bn(x) + x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("size", [4, 40], ids=["small", "large enough for a kernel"])
def test_what_is_added_may_be_smaller(size: int) -> None:
    model = built(Broadcast)
    twin, x = copy.deepcopy(model), torch.randn(6, 8, size, size).double()
    assert changes(accelerate_(model, x)) == ["ours, with add and silu"]
    assert_same(model, twin, x)


def test_it_compiles_in_one_graph() -> None:
    model = built(lambda: nn.Sequential(Residual(3, 4), Residual(4, 4), nn.BatchNorm2d(4), nn.GELU()))
    twin, x = copy.deepcopy(model), torch.randn(4, 3, 4, 4).double()
    accelerate_(model)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), twin(x), rtol=TRAINING, atol=TRAINING)
