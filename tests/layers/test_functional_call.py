"""A model in train mode as a function, under the transforms of `torch.func`."""

from typing import Any

import pytest
import torch
from tests.layers.layers_of_others import CallsSuper
from tests.layers.oracle import close, learned, random, same, statistics
from torch import nn
from torch.func import functional_call as torchs

from normlab import layers
from normlab.errors import InvalidInputError
from normlab.layers import functional_call

KINDS: dict[str, Any] = {
    "ours": layers.BatchNorm1d,
    "stock": nn.BatchNorm1d,
    "calls super": CallsSuper,
    "average": lambda channels: layers.BatchNorm1d(channels, momentum=None),
    "stock average": lambda channels: nn.BatchNorm1d(channels, momentum=None),
    "debiased": lambda channels: layers.BatchNorm1d(channels, rule="debiased"),
    "running": lambda channels: layers.BatchNorm1d(channels, normalize_with="running"),
    "renorm": lambda channels: layers.BatchRenorm1d(channels, schedule=(0, 0, 0)),
    "ghost": lambda channels: layers.GhostBatchNorm1d(channels, virtual_batch=3),
    "domains": lambda channels: layers.DomainBatchNorm1d(channels, ["a", "b"]),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def build(kind: str) -> nn.Sequential:
    """With a norm that is called twice."""
    norm = KINDS[kind](4)
    return learned(nn.Sequential(nn.Linear(3, 4), norm, nn.Tanh(), nn.Linear(4, 4), norm, nn.Linear(4, 2))).double()


def moved(kind: str, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """What the model returns, and its statistics, after it is called as any other."""
    model = build(kind)
    return model(x).detach(), statistics(model)


@kinds
def test_nothing_of_the_model_changes(kind: str) -> None:
    model = build(kind)
    before, its_class = {name: each.clone() for name, each in model.state_dict().items()}, type(model[1])
    names, versions = set(vars(model[1])) - {"taker"}, [each._version for each in model.buffers()]
    held = [*model.parameters(), *model.buffers()]
    y, new = functional_call(model, {}, random(6, 3))
    expected, after = moved(kind, random(6, 3))
    close(y, expected)
    for name, value in after.items():
        close(new.get(name, value), value)
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= set(new) <= set(after)
    assert same(before, model.state_dict())
    assert all(one is other for one, other in zip(held, [*model.parameters(), *model.buffers()], strict=True))
    assert [each._version for each in model.buffers()] == versions
    assert type(model[1]) is its_class
    assert set(vars(model[1])) - {"taker"} == names


@kinds
def test_vmap_and_grad(kind: str) -> None:
    """Of each batch by itself, as many calls would have it; and the gradients are those of autograd."""
    model, xs, dys = build(kind), random(3, 6, 3), random(3, 6, 2, seed=1)
    learnt = {name: each.detach() for name, each in model.named_parameters()}

    def weighed(tensors: dict[str, torch.Tensor], x: torch.Tensor, dy: torch.Tensor) -> Any:
        y, new = functional_call(model, tensors, (x,))
        return (y * dy).sum(), (y, new)

    grads, (ys, news) = torch.func.vmap(torch.func.grad(weighed, has_aux=True), (None, 0, 0))(learnt, xs, dys)
    for number in range(3):
        twin = build(kind)
        y = twin(xs[number])
        y.backward(dys[number])
        close(ys[number], y)
        for name, each in twin.named_parameters():
            close(grads[name][number], each.grad)
        for name, value in news.items():
            close(value[number], statistics(twin)[name])
    assert set(news) <= set(statistics(model))
    assert same(statistics(build(kind)), statistics(model))


@kinds
def test_step_after_step(kind: str) -> None:
    """The new statistics go into the next call, those of several models side by side."""
    model, xs = build(kind), random(2, 3, 6, 3)
    state = {name: each.expand(2, *each.shape) for name, each in model.named_buffers()}
    for step in range(3):
        _, new = torch.func.vmap(lambda held, x: functional_call(model, held, x))(state, xs[:, step])
        state |= new
    for number in range(2):
        twin = build(kind)
        for x in xs[number]:
            twin(x)
        for name, value in statistics(twin).items():
            close(state[name][number], value)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch uses it for forward derivatives
@pytest.mark.parametrize("kind", ["ours", "stock", "ghost", "renorm"])
def test_jacobians(kind: str) -> None:
    model, x = build(kind), random(4, 3)

    def call(x: torch.Tensor) -> torch.Tensor:
        return functional_call(model, {}, x)[0]

    expected = torch.autograd.functional.jacobian(build(kind), x)
    close(torch.func.jacrev(call)(x), expected)
    close(torch.func.jacfwd(call)(x), expected)
    along = random(4, 3, seed=7)
    y, tangent, new = torch.func.jvp(lambda x: functional_call(model, {}, x), (x,), (along,), has_aux=True)
    close(y, build(kind)(x))
    close(tangent, torch.einsum("abcd,cd->ab", expected, along))
    for name, value in new.items():
        close(value, moved(kind, x)[1][name])


def test_instance_norm() -> None:
    model = layers.InstanceNorm1d(3, track_running_stats=True).double()
    twin = nn.InstanceNorm1d(3, track_running_stats=True).double()
    xs = random(2, 4, 3, 5)
    ys, news = torch.func.vmap(lambda x: functional_call(model, {}, x))(xs)
    for number in range(2):
        twin.reset_running_stats()
        close(ys[number], twin(xs[number]))
        close(news["running_mean"][number], twin.running_mean)
        close(news["running_var"][number], twin.running_var)


def test_what_is_not_finite_is_not_returned() -> None:
    model, xs = layers.BatchNorm1d(2), random(2, 4, 2, dtype=torch.float32)
    xs[1, 0, 0] = torch.nan
    _, new = torch.func.vmap(lambda x: functional_call(model, {}, x))(xs)
    assert new["skipped_non_finite"].tolist() == [0, 1]
    assert new["num_batches_tracked"].tolist() == [1, 0]
    assert torch.equal(new["running_var"][1], model.running_var)


def test_arguments_and_names() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleDict({"norm": layers.BatchNorm1d(2, eps=1e-12, momentum=1.0)})

        def forward(self, x: torch.Tensor, *, shift: float) -> dict[str, torch.Tensor]:
            return {"y": self.inner["norm"](x) + shift}

    weight = torch.tensor([2.0, 2.0])
    output, new = functional_call(Two(), {"inner.norm.weight": weight}, (torch.eye(2),), {"shift": 5.0})
    torch.testing.assert_close(output["y"], 5 + 2 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert list(new) == ["inner.norm.running_mean", "inner.norm.running_var", "inner.norm.num_batches_tracked",
                         "inner.norm.skipped_non_finite"]  # fmt: skip
    assert new["inner.norm.running_mean"].tolist() == [0.5, 0.5]
    eval_output, nothing = functional_call(Two().eval(), {}, (torch.eye(2),), {"shift": 5.0})
    assert nothing == {}
    torch.testing.assert_close(eval_output["y"], 5 + torch.eye(2))


def test_an_error_inside() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(5, 5))
    before = statistics(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        functional_call(model, {}, torch.randn(4, 3))
    assert same(before, statistics(model))
    assert type(model[0]) is nn.BatchNorm1d


def test_compiled() -> None:
    model, x = nn.Sequential(nn.Linear(3, 3), layers.BatchNorm1d(3)), random(4, 3, dtype=torch.float32)
    learnt = {name: each.detach() for name, each in model.named_parameters()}
    call = torch.compile(lambda tensors, x: functional_call(model, tensors, x), fullgraph=True, backend="aot_eager")
    y, new = call(learnt, x)
    expected, theirs = functional_call(model, learnt, x)
    torch.testing.assert_close(y, expected.detach())
    torch.testing.assert_close(new, theirs)
    y, new = functional_call(torch.compile(model, fullgraph=True, backend="aot_eager"), {}, x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(new, {f"_orig_mod.{name}": each for name, each in theirs.items()})
    assert int(model[1].num_batches_tracked) == 0


@pytest.mark.parametrize("layer", [layers.BatchNorm1d(2), layers.InstanceNorm1d(2, track_running_stats=True)])
def test_a_plain_call_is_refused(layer: nn.Module) -> None:
    shape = (3, 4, 2) if isinstance(layer, nn.BatchNorm1d) else (3, 4, 2, 5)
    where = type(layer).__name__
    for call in (torch.func.vmap(layer), torch.func.grad(lambda x: layer(x[0]).sum())):
        with pytest.raises(InvalidInputError) as raised:
            call(torch.randn(shape))
        assert str(raised.value) == (
            f"{where}: inside of a transform of torch.func the running statistics cannot be changed in place.\n"
            "  fix: call the model by `normlab.functional_call`, which returns the new ones, or in "
            "`normlab.stats_frozen`."
        )
    assert int(layer.num_batches_tracked) == 0
    with layers.stats_frozen(layer):
        assert torch.func.vmap(layer)(torch.randn(shape)).shape == shape


def test_by_torchs_own_it_writes_into_what_it_is_given() -> None:
    model = layers.BatchNorm1d(3)
    given = statistics(model)
    torchs(model, given, (random(4, 3, dtype=torch.float32),))
    assert int(given["num_batches_tracked"]) == 1
    assert int(model.num_batches_tracked) == 0
