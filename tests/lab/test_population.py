"""Population statistics against the whole set at once, and against means worked out in NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from normlab.lab.population import set_population_statistics

# float32 sums of up to 4,096 values of unit size in another order: 16 roundings of 2⁻²³, as in tests/tolerances.py
ROUNDING = 16 * 2.0**-23


def model(shift: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(12, 4),
        nn.BatchNorm1d(4),
    )
    with torch.no_grad():
        net[0].bias += shift
    return net


def data(count: int = 21) -> torch.Tensor:
    return (
        torch.randn(count, 2, 4, 4, generator=torch.Generator().manual_seed(1))
        * torch.linspace(0.5, 3, count)[:, None, None, None]
    )


def values(net: nn.Sequential, x: torch.Tensor, upto: int) -> torch.Tensor:
    """What enters a layer, with each norm before it on the batch."""
    for layer in net[:upto]:
        layer.train(isinstance(layer, nn.BatchNorm2d))
        x = layer(x)
    return x.transpose(0, 1).flatten(1)


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_pooled_over_ragged_batches_is_the_whole_set_for_the_first_norm(shift: float) -> None:
    """21 = 8 + 8 + 5: an average of batches would weigh the last one too much."""
    net, x = model(shift), data()
    with torch.no_grad():
        whole = values(model(shift), x, 1).double()
    set_population_statistics(net, x, 8, "pooled")
    scale = 1 + shift
    np.testing.assert_allclose(net[1].running_mean, whole.mean(1), rtol=0, atol=ROUNDING * scale * 4)
    np.testing.assert_allclose(net[1].running_var, whole.var(1), rtol=1e-4 if shift else 1e-5)


@pytest.mark.parametrize("method", ["average", "pooled"])
def test_statistics_are_those_of_the_batches(method: str) -> None:
    net, x = model(), data()
    batches = x.split(8)
    found = {}
    for place, width in ((1, 4), (6, 1)):
        with torch.no_grad():
            seen = [values(model(), batch, place).double().numpy() for batch in batches]
        counts = np.array([each.shape[1] for each in seen])
        means = np.array([each.mean(1) for each in seen])
        variances = np.array([each.var(1, ddof=1) for each in seen])
        assert counts.tolist() == [8 * width, 8 * width, 5 * width]
        if method == "average":
            found[place] = means.mean(0), variances.mean(0)
        else:
            mean = counts @ means / counts.sum()
            squares = (counts - 1) @ variances + counts @ (means - mean) ** 2
            found[place] = mean, squares / (counts.sum() - 1)
    set_population_statistics(net, x, 8, method)
    for place, (mean, var) in found.items():
        np.testing.assert_allclose(net[place].running_mean, mean, rtol=0, atol=ROUNDING * 4)
        np.testing.assert_allclose(net[place].running_var, var, rtol=1e-5)


def test_nothing_else_moves() -> None:
    net, x = model(), data()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    set_population_statistics(net, x, 8, "pooled")
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in net.modules()] == modes
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert moved == {f"{norm}.{name}" for norm in (1, 6) for name in statistics}
    assert int(net[1].num_batches_tracked) == 3
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_a_last_batch_of_one_is_left_out() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2))
    x = data(17)[:, :, 0, 0]
    set_population_statistics(net, x, 8, "pooled")
    np.testing.assert_allclose(net[0].running_mean, x[:16].double().mean(0), rtol=0, atol=ROUNDING * 4)


def test_a_network_without_batch_norm_is_left_alone() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    set_population_statistics(net, data()[:, :, 0, 0], 8, "pooled")
    assert net[1].running_mean is None


def test_activations_that_are_not_finite_give_statistics_that_evaluate_to_nothing() -> None:
    """As the moving average would: the run goes on, and its record says that there is no metric."""
    net, x = model(), data()
    x[3, 0, 0, 0] = torch.inf
    set_population_statistics(net, x, 8, "pooled")
    assert net[1].running_var.isnan().all()
    assert net.eval()(data()).isnan().all()


def test_other_norms_are_left_alone() -> None:
    net = nn.Sequential(nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten(), nn.BatchNorm1d(8))
    set_population_statistics(net, data()[:, :, :2, :2].flatten(2), 8, "pooled")
    assert net[0].running_var.equal(torch.ones(2))
    assert not net[2].running_var.equal(torch.ones(8))
