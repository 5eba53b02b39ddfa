"""Statistics of a population, from batches of it."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from benchmarks.correctness.row import Figures, Row, normal, raised
from normlab import layers
from normlab.layers import accumulate, domain
from normlab.tools import recalibrate_


def _of(batches: list[Tensor]) -> tuple[float, float]:
    """Mean and unbiased variance of all values, in float64."""
    whole = torch.cat(batches).double()
    return float(whole.mean()), float(whole.var())


def _running(model: nn.Module) -> tuple[float, float]:
    layer = next(each for each in model.modules() if isinstance(each, nn.BatchNorm1d))
    return float(layer.running_mean[0]), float(layer.running_var[0])


def _updated(batches: list[Tensor], model: nn.Module | None = None) -> tuple[float, float]:
    model = nn.Sequential(nn.BatchNorm1d(1)) if model is None else model
    update_bn(batches, model)
    return _running(model)


def _recalibrated(batches: list[Tensor], model: nn.Module | None = None) -> tuple[float, float]:
    model = nn.Sequential(nn.BatchNorm1d(1)) if model is None else model
    recalibrate_(model, batches)
    return _running(model)


def _alternating() -> list[Tensor]:
    return [10.0 * (at % 2) + normal(at, 32, 1) for at in range(10)]


def _ragged() -> list[Tensor]:
    return [normal(at, 64, 1) for at in range(3)] + [51.0 + normal(3, 2, 1)]


def alternating() -> Figures:
    batches = _alternating()
    return Figures(_updated(batches)[1], _recalibrated(batches)[1], _of(batches)[1])


def ragged_mean() -> Figures:
    batches = _ragged()
    return Figures(_updated(batches)[0], _recalibrated(batches)[0], _of(batches)[0])


def ragged_variance() -> Figures:
    batches = _ragged()
    return Figures(_updated(batches)[1], _recalibrated(batches)[1], _of(batches)[1])


def with_dropout() -> Figures:
    batches = [normal(at, 2_000, 1) for at in range(5)]

    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1))

    return Figures(_updated(batches, model())[1], _recalibrated(batches, model())[1], _of(batches)[1])


def frozen_wakes() -> Figures:
    def model() -> nn.Sequential:
        made = nn.Sequential(nn.BatchNorm1d(1), nn.BatchNorm1d(1))
        made[1].eval()
        return made

    theirs, mine = model(), model()
    update_bn(_alternating(), theirs)
    recalibrate_(mine, _alternating())
    return Figures(float(theirs[1].training), float(mine[1].training), 0.0)


def nothing_to_see() -> Figures:
    def model() -> nn.Sequential:
        made = nn.Sequential(nn.BatchNorm1d(1))
        made[0].running_mean.fill_(3.0)
        return made

    theirs, mine = model(), model()
    update_bn([], theirs)
    raised(lambda: recalibrate_(mine, []))
    return Figures(_running(theirs)[0], _running(mine)[0], 3.0)


def breaks_off() -> Figures:
    def batches() -> list[Tensor]:
        return [normal(0, 4, 1), normal(1, 4, 2)]  # the second does not fit

    theirs, mine = nn.Sequential(nn.BatchNorm1d(1)), nn.Sequential(nn.BatchNorm1d(1))
    raised(lambda: update_bn(batches(), theirs))
    raised(lambda: recalibrate_(mine, batches()))
    return Figures(str(theirs[0].momentum), str(mine[0].momentum), "0.1")


def averaged_model() -> Figures:
    """Weights averaged over 4 steps: the statistics of the average are not the average of the statistics."""
    batches = [normal(at, 64, 1) for at in range(4)]
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    averaged = AveragedModel(model, use_buffers=True)
    for at, batch in enumerate(batches):
        with torch.no_grad():
            model[0].weight.fill_(1.0 + at)  # 2.5 on average
        model(batch)
        averaged.update_parameters(model)
    theirs = _running(averaged)[1]
    recalibrate_(averaged, batches)
    weight = averaged.module[0].weight.detach().double()
    return Figures(theirs, _running(averaged)[1], _of([batch.double() @ weight for batch in batches])[1])


def few_steps() -> Figures:
    batches = [5.0 + normal(at, 256, 1) for at in range(10)]
    theirs, mine = nn.BatchNorm1d(1, momentum=0.01), layers.BatchNorm1d(1, momentum=0.01, rule="debiased")
    for batch in batches:
        theirs(batch)
        mine(batch)
    return Figures(_running(theirs)[0], _running(mine)[0], _of(batches)[0])


def micro_batches() -> Figures:
    batches = [10.0 * (at % 2) + normal(at, 8, 1) for at in range(4)]
    theirs, mine = nn.BatchNorm1d(1, momentum=1.0), nn.BatchNorm1d(1, momentum=1.0)
    for batch in batches:
        theirs(batch)
    with accumulate(mine, micro_batches=4):
        for batch in batches:
            mine(batch)
    return Figures(_running(theirs)[1], _running(mine)[1], _of(batches)[1])


def two_domains() -> Figures:
    real, fake = [normal(at, 64, 1) for at in range(40)], [8.0 + normal(at, 64, 1) for at in range(40)]
    theirs, mine = nn.BatchNorm1d(1), layers.DomainBatchNorm1d(1, ["real", "fake"])
    for one, other in zip(real, fake, strict=True):
        theirs(one), theirs(other)
        mine(one)
        with domain(mine, "fake"):
            mine(other)
    return Figures(_running(theirs)[0], float(mine.running_mean_fake), _of(fake)[0])


UPDATE_BN = "torch.optim.swa_utils.update_bn"
ROWS = (
    Row("alternating domains", 17, "batches of 32, means now 0, now 10", UPDATE_BN, "recalibrate_", "running variance",
        alternating),
    Row("ragged last batch, mean", 35, "3 × 64 around 0, then 2 around 51", UPDATE_BN, "recalibrate_", "running mean",
        ragged_mean),
    Row("ragged last batch, variance", 35, "the same", UPDATE_BN, "recalibrate_", "running variance", ragged_variance),
    Row("dropout stays on", 23, "dropout 0.5 before batch norm, inputs of variance 1", UPDATE_BN, "recalibrate_",
        "running variance", with_dropout),
    Row("a layer in eval is woken", 17, "one batch norm in eval in a model in train", UPDATE_BN, "recalibrate_",
        "its `training` afterwards", frozen_wakes),
    Row("no batches", 17, "an empty loader, running mean 3", UPDATE_BN, "recalibrate_ (raises)",
        "running mean afterwards", nothing_to_see),
    Row("a batch that does not fit", 17, "the second batch raises", UPDATE_BN, "recalibrate_ (raises)",
        "`momentum` afterwards", breaks_off),
    Row("averaged weights", 16, "4 updates with `use_buffers=True`", "AveragedModel", "recalibrate_",
        "running variance", averaged_model),
    Row("few steps", 9, "10 batches around 5 at momentum 0.01", "BatchNorm1d", 'rule="debiased"', "running mean",
        few_steps, tolerance=0.05),
    Row("gradient accumulation", 19, "4 micro-batches of means 0 and 10, momentum 1", "BatchNorm1d", "accumulate",
        "running variance", micro_batches),
    Row("one layer for two domains", 27, "real around 0, fake around 8", "BatchNorm1d", "DomainBatchNorm1d",
        "running mean of fake", two_domains, tolerance=0.02),
)  # fmt: skip
