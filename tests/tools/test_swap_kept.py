"""What a swap leaves alone: layers that it says why, and everything when it raises."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from normlab import layers
from normlab.errors import InvalidInputError
from normlab.tools import Report, swap_
from normlab.tools.freeze import freeze_

UNSEEN = "the number of dimensions of its input is not known: pass an example"


def reasons(report: Report) -> dict[str, str]:
    return {each.name: each.reason for each in report.skipped}


class Doubled(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Named(nn.BatchNorm2d):
    """A subclass that is the same layer."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=0.01)


class TheirNorm(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.norm()


class PreNorm(nn.Module):
    """A norm and what it is before; its parts are seen by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.then = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.then(self.norm(x))


def test_a_layer_whose_meaning_is_not_known_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    model = nn.Sequential(Doubled(8), Named(8), nn.LocalResponseNorm(3), TheirNorm(), PreNorm(), nn.SyncBatchNorm(8))
    report = swap_(model, "group", example=torch.ones(2, 8, 4, 4))
    assert reasons(report) == {
        "0": "Doubled has a forward of its own, whose meaning is not known",
        "2": "it normalizes across neighbouring channels, as no other norm does",
        "3": "TheirNorm has a forward of its own, whose meaning is not known",
    }
    assert [(each.name, each.layer) for each in report.touched] == [
        ("1", "Named(8)"), ("4.norm", "BatchNorm2d(8)"), ("5", "SyncBatchNorm(8)"),
    ]  # fmt: skip
    assert [type(each).__name__ for each in model] == [
        "Doubled", "GroupNorm", "LocalResponseNorm", "TheirNorm", "PreNorm", "GroupNorm",
    ]  # fmt: skip
    assert [" ".join(line.split()) for line in str(report).splitlines() if line.strip(" ─")] == [
        "3 of 6 norm layers swapped to group norm",
        "name layer what was done",
        "1 Named(8) to GroupNorm(8, 8)",
        "4.norm BatchNorm2d(8) to GroupNorm(8, 8)",
        "5 SyncBatchNorm(8) to GroupNorm(8, 8)",
        "0 Doubled(8) kept: Doubled has a forward of its own, whose meaning is not known",
        "2 LocalResponseNorm(3) kept: it normalizes across neighbouring channels, as no other norm does",
        "3 TheirNorm kept: TheirNorm has a forward of its own, whose meaning is not known",
    ]


def test_what_is_of_the_kind_stays_and_is_counted_apart() -> None:
    model = nn.Sequential(nn.SyncBatchNorm(8), nn.BatchNorm1d(8), nn.LayerNorm(8))
    report = swap_(model, "batch", example=torch.randn(3, 8))
    assert report.title() == "1 of 3 norm layers swapped to batch norm, 2 already so"
    assert [(each.name, each.reason, each.same) for each in report.skipped] == [
        ("0", "it is batch norm as it is", True),
        ("1", "it is batch norm as it is", True),
    ]
    assert swap_(model, "batch", example=torch.randn(3, 8)).title() == (
        "0 of 3 norm layers swapped to batch norm, 3 already so"
    )
    assert swap_(nn.Sequential(), "none").title() == "0 of 0 norm layers swapped to no norm"


def test_the_whole_model_cannot_be_replaced_in_place() -> None:
    model = nn.BatchNorm1d(8)
    report = swap_(model, "group", groups=2)
    assert reasons(report) == {"": "it is the whole model, which cannot be replaced in place"}
    assert "the model   BatchNorm1d(8)   kept: it is the whole model" in str(report)


def test_what_hangs_on_the_old_layer_keeps_it() -> None:
    class Plus(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + 1

    model = nn.Sequential(*(nn.LayerNorm(8) for _ in range(4)))
    parametrize.register_parametrization(model[0], "weight", Plus())
    model[1].register_forward_hook(lambda module, inputs, output: None)
    model[2].weight = model[3].weight
    assert reasons(swap_(model, "batch", example=torch.randn(3, 8))) == {
        "0": "its weight is computed by a parametrization",
        "1": "it has hooks, which would be lost",
        "2": "it shares a parameter with another layer",
        "3": "it shares a parameter with another layer",
    }


def test_normalized_weights_are_no_norm_layers() -> None:
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
        nn.BatchNorm2d(8),
        parametrizations.spectral_norm(nn.Conv2d(8, 8, 1)),
    )
    model(torch.randn(2, 3, 5, 5))
    before = copy.deepcopy(model.state_dict())
    report = swap_(model, "none", example=torch.randn(2, 3, 5, 5))
    assert [each.name for each in report.touched] == ["1"]
    assert not report.skipped
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if not name.startswith("1."))


@pytest.mark.parametrize(
    ("layer", "to", "shape", "reason"),
    [
        (nn.BatchNorm2d(30), "group", (2, 30, 3, 3), "8 groups do not divide 30 channels"),
        (
            nn.BatchNorm2d(8), "group", (2, 8, 1, 1),
            "8 groups of 8 units leave one unit in each: the output would be the bias",
        ),
        (nn.BatchNorm1d(8), "instance", (2, 8), "instance norm takes its moments over positions, and here are none"),
        (
            nn.BatchNorm2d(8), "instance", (2, 8, 1, 1),
            "instance norm takes its moments over positions, and here is one: the output would be the bias",
        ),
        (nn.BatchNorm1d(1), "layer", (2, 1), "layer norm of a single number leaves at most its sign"),
        (nn.BatchNorm2d(1), "rms", (2, 1, 1, 1), "rms norm of a single number leaves at most its sign"),
        (
            nn.GroupNorm(2, 8), "batch", (2, 8, 1, 2, 1, 2),
            "batch norm takes at most 3 dimensions of positions, and here are 4",
        ),
        (
            nn.LayerNorm((3, 3)), "batch", (2, 8, 3, 3),
            "it normalizes over the last 2 dimensions of an input (2, 8, 3, 3), as no other norm does",
        ),
        (nn.InstanceNorm1d(8), "batch", (8, 4), "its input has 2 dimensions, and so none for the samples"),
    ],
    ids=str,
)  # fmt: skip
def test_a_norm_that_has_no_sense_there_is_not_put_there(
    layer: nn.Module, to: str, shape: tuple[int, ...], reason: str
) -> None:
    model = nn.Sequential(layer)
    assert reasons(swap_(model, to, example=torch.randn(shape))) == {"0": reason}
    assert model[0] is layer


class Along(nn.Module):
    """Norms of their input with its dimensions in other orders, one after the other."""

    def __init__(self, norm: nn.Module, *orders: tuple[int, ...]) -> None:
        super().__init__()
        self.norm, self.orders = norm, orders

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.norm(x.permute(order)) for order in self.orders]


@pytest.mark.parametrize(
    ("norm", "orders", "to", "reason"),
    [
        (nn.GroupNorm(2, 8), [(2, 1, 0)], "layer", "the samples of its input are not in the first dimension"),
        (nn.GroupNorm(2, 8), [(2, 1, 0)], "batch", None),  # all samples and positions together
        (nn.LayerNorm(5), [(0, 1, 2), (1, 0, 2)], "group", "the samples of its input are in several dimensions"),
        (nn.LayerNorm(5), [(0, 1, 2), (1, 0, 2)], "batch", None),
        (nn.LayerNorm(5), [(0, 1, 2), (1, 0, 2)], "rms", None),  # each position by itself
    ],
)
def test_samples_in_another_place_are_not_mixed(
    norm: nn.Module, orders: list[tuple[int, ...]], to: str, reason: str | None
) -> None:
    found = reasons(swap_(Along(norm, *orders), to, example=torch.randn(4, 8, 5), groups=1))
    assert found == ({"norm": reason} if reason else {})


def test_a_norm_of_inputs_of_several_dimensions() -> None:
    class Both(nn.Module):
        def __init__(self, norm: nn.Module) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x) + self.norm(x[:, None])[:, 0]

    example = torch.randn(4, 8)
    model = Both(nn.LayerNorm(8))
    assert reasons(swap_(model, "batch", example=example)) == {"norm": "its input has now 2 dimensions, now 3"}
    assert not swap_(model, "rms", example=example).skipped
    model(example)


@pytest.mark.parametrize("to", ["none", "batch", "group", "instance"])  # PyTorch's rms norm calls its input `x`
def test_a_norm_that_is_called_by_keyword(to: str) -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.last = nn.GroupNorm(4, 8), nn.LayerNorm(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(input=self.norm(input=x).transpose(1, 2))

    model, example = Keyword(), torch.randn(4, 8, 3)
    assert len(swap_(model, to, example=example, groups=2).touched) == (1 if to == "group" else 2)
    assert model(example).shape == (4, 3, 8)


def test_without_an_example_only_what_is_sure_is_swapped() -> None:
    def network() -> nn.Module:
        return nn.Sequential(
            nn.BatchNorm1d(16), nn.BatchNorm2d(16), nn.GroupNorm(2, 16), nn.LayerNorm(16), nn.LayerNorm((16, 3, 3))
        )

    assert reasons(swap_(network(), "batch")) == {
        "0": "it is batch norm as it is", "1": "it is batch norm as it is", "2": UNSEEN, "3": UNSEEN, "4": UNSEEN,
    }  # fmt: skip
    assert reasons(swap_(network(), "instance")) == {"0": UNSEEN, "2": UNSEEN, "3": UNSEEN, "4": UNSEEN}
    assert reasons(swap_(network(), "rms")) == {"4": UNSEEN}
    layered = network()
    swap_(layered, "layer")
    for x in (torch.randn(2, 16), torch.randn(2, 16, 5)):  # whichever it may be
        assert torch.allclose(layered[0](x), nn.functional.layer_norm(x, x.shape[1:]), atol=1e-6)
    # without positions, groups of one unit would leave nothing: that is not risked
    assert "leave one unit" in reasons(swap_(nn.Sequential(nn.BatchNorm1d(8)), "group"))["0"]


def test_a_norm_that_the_example_does_not_reach() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.flat, self.images = nn.BatchNorm1d(8), nn.BatchNorm1d(8), nn.BatchNorm2d(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    model = Spare()
    report = swap_(model, "instance", example=torch.randn(2, 8, 3))
    assert reasons(report) == {"flat": "the example does not reach it, so that the shape of its input is not known"}
    assert [each.name for each in report.touched] == ["used", "images"]


class Moving(nn.Module):
    """Draws, counts in a buffer, makes a new one, and then fails if it is told to."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.norm, self.drop, self.frozen = nn.BatchNorm1d(8), nn.Dropout(), nn.BatchNorm1d(8).eval()
        self.fails = fails
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("cache", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.cache = x.mean()
        x = self.frozen(self.norm(x + torch.rand(8)))
        if self.fails:
            raise RuntimeError("so it is")
        return x


def everything(model: nn.Module) -> dict[str, Any]:
    return {
        "state": copy.deepcopy(model.state_dict()),
        "grads": [each.grad for each in model.parameters()],
        "modes": [each.training for each in model.modules()],
        "hooks": [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in model.modules()],
        "names": [(name, id(each)) for name, each in model.named_modules()],
        "cache": model.cache,
        "random": torch.get_rng_state(),
    }


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key in one.keys() - {"state", "random"}:
        assert one[key] == other[key], key
    assert torch.equal(one["random"], other["random"])
    assert one["state"].keys() == other["state"].keys()
    assert all(torch.equal(one["state"][name], other["state"][name]) for name in one["state"])


def test_a_model_that_fails_is_left_as_it_was_to_the_bit() -> None:
    model = Moving(fails=True)
    before = everything(model)
    with pytest.raises(RuntimeError, match="so it is"):
        swap_(model, "group", example=torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    assert_same(before, everything(model))


def test_looking_at_the_shapes_leaves_no_trace() -> None:
    model = Moving(fails=False)
    before = everything(model)
    report = swap_(model, "batch", example=torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    assert not report.touched
    assert_same(before, everything(model))


def test_a_model_that_takes_a_new_layer_badly_is_left_as_it_was() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.BatchNorm1d(8), nn.BatchNorm1d(8)
            self.ready = True

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "other" and hasattr(self, "ready"):
                raise RuntimeError("so it is")
            super().__setattr__(name, value)

    model = nn.Sequential(Picky(), nn.BatchNorm1d(8))
    names, before = [each for _, each in model.named_modules()], copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="so it is"):
        swap_(model, "layer")
    assert [each for _, each in model.named_modules()] == names
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


@pytest.mark.parametrize("kind", ["arguments", "names"])
def test_an_example_of_several_inputs(kind: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.first = nn.LayerNorm(8), nn.GroupNorm(2, 4)

        def forward(self, x: torch.Tensor, scale: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
            return self.norm(x * scale + table) + self.first((x + table).transpose(0, 2)).transpose(0, 2)

    model, inputs = Two(), {"x": torch.randn(5, 4, 8), "scale": torch.ones(5, 1, 1), "table": torch.zeros(4, 8)}
    example = inputs if kind == "names" else tuple(inputs.values())
    report = swap_(model, "instance", example=example)
    assert [(each.name, each.change) for each in report.touched] == [
        ("norm", "to InstanceNorm1d(8) over the last dimension")
    ]
    # seen by leaving out the last sample of what has five of them; `table` has none
    assert reasons(report) == {"first": "the samples of its input are not in the first dimension"}


def test_ours_and_frozen_ones_are_the_norms_that_they_are() -> None:
    model = nn.Sequential(
        layers.BatchNorm2d(8), layers.GroupNorm(1, 8), layers.BatchNorm1d(8, axis=-1), nn.BatchNorm2d(8),
        layers.DomainBatchNorm2d(8, ["real", "fake"]),
    )  # fmt: skip
    model[3].running_mean.add_(1)
    freeze_(model, "3")
    assert set(reasons(swap_(model[3:4], "instance"))) == set()  # as many dimensions as the class says that is frozen
    report = swap_(model, "group", groups=2)
    assert [(each.name, each.layer) for each in report.touched] == [
        ("0", "BatchNorm2d(8)"),
        ("1", "GroupNorm(1, 8), which is layer norm"),
        ("3", "FrozenBatchNorm2d(8)"),
    ]
    assert reasons(report) == {
        "2": "its channels are in dimension -1",
        "4": "DomainBatchNorm2d has statistics for several domains, and is another norm in each",
    }
    assert model[3].training
    assert {each.name for each in swap_(model, "batch").skipped if each.same} == {"2"}


def test_what_has_running_statistics_is_not_passed_over() -> None:
    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(8))
            self.act = nn.ReLU()

    assert reasons(swap_(nn.Sequential(Theirs()), "group")) == {
        "0": "Theirs has a forward of its own, whose meaning is not known"
    }


def test_a_model_of_one_batch_size_can_be_looked_at() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x.view(4, 2, 8))

    for example, model in ((torch.randn(4, 2, 8), Fixed()), (torch.randn(1, 2, 8), nn.Sequential(nn.LayerNorm(8)))):
        (swapped,) = swap_(model, "group", example=example, groups=2).touched
        assert swapped.change == "to GroupNorm(2, 8) over the last dimension"


@pytest.mark.parametrize(
    ("to", "model", "text"),
    [
        (
            "bach", nn.Sequential(),
            "swap_: `to` must be a norm.\n  got: 'bach'\n  fix: did you mean `batch`?",
        ),
        (
            "batch", nn.Sequential(nn.LazyBatchNorm1d()),
            "swap_: `model` must have all its weights.\n  got: 0.weight is lazy\n"
            "  fix: pass one batch through it first.",
        ),
    ],
    ids=["norm", "lazy"],
)  # fmt: skip
def test_what_cannot_be_swapped_at_all(to: str, model: nn.Module, text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        swap_(model, to, example=torch.randn(3, 2))
    assert str(caught.value) == text


def test_a_wrapped_model_is_refused() -> None:
    """The compiler checks neither layers nor hooks again, and a reducer would go on averaging the old parameters."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
    finally:
        torch.distributed.destroy_process_group()
    compiled = nn.Sequential(torch.compile(nn.Linear(2, 2), backend="eager"))
    for model, got in ((wrapped, "DistributedDataParallel"), (compiled, "OptimizedModule")):
        with pytest.raises(InvalidInputError) as caught:
            swap_(model, "batch")
        assert str(caught.value) == (
            "swap_: `model` must not be compiled, scripted or wrapped: what does so holds on to the old layers.\n"
            f"  got: {got}\n  fix: swap first, then wrap or compile."
        )


def test_a_lazy_norm_is_swapped_once_it_has_its_weights() -> None:
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d())
    example = torch.randn(2, 3, 5, 5)
    model(example)
    assert [each.layer for each in swap_(model, "group", example=example, groups=2).touched] == ["BatchNorm2d(8)"]
