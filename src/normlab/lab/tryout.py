"""Trying a network with its data, loss and metric once, so that what does not fit is said before a run begins."""

import numpy as np
import torch
from torch import nn

from normlab import errors
from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.judge import Judge, is_column
from normlab.lab.own import raised
from normlab.lab.own_model import not_taken
from normlab.lab.preserve import preserved
from normlab.lab.tensors import tensor


def try_out(config: RunConfig, data: Dataset, model: nn.Module, judge: Judge) -> None:
    """Passes some samples through in both modes, and takes loss, gradient and metric of the output.

    The model is bit-equal afterwards.

    Raises:
        UsageError: something raises, or the parts do not fit one another.
    """
    chosen = np.unique(np.arange(config.probe) * len(data.x_train) // config.probe)  # as many as a run looks at
    x, y = tensor(data.x_train[chosen], config), tensor(data.y_train[chosen], config)
    name = config.model.factory or f"model.kind={config.model.kind}"
    if not config.model.factory and not x.is_floating_point():
        fix = "return floats, for instance x / 255."
        raise _refused(name, "`x` must be floats for a network of the lab.", errors.describe(x=x), fix)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise _refused(name, "the network has no parameter that learns.")
    with preserved(model):
        model.train()
        output = _output(config, model, x, name)
        _check_output(config, data, output, y, name)
        _check_loss(config, judge, output, y)
        model.eval()
        with torch.no_grad():
            _check_metric(config, judge, _output(config, model, x, name), y)


def _output(config: RunConfig, model: nn.Module, x: torch.Tensor, name: str) -> torch.Tensor:
    mode = "train" if model.training else "eval"
    try:
        output: object = model(x)
    except Exception as error:
        raise not_taken(name, f"with norm={config.norm} the network fails in {mode} mode", error, x) from error
    if not isinstance(output, torch.Tensor):
        fix = "wrap it in a module whose forward returns the one to be judged."
        raise _refused(name, "the network must return one tensor.", type(output).__name__, fix)
    if not output.ndim or len(output) != len(x) or not output.is_floating_point():
        raise _refused(name, "the output must be floats, one entry a sample.", errors.describe(output=output, x=x))
    return output


def _check_output(config: RunConfig, data: Dataset, output: torch.Tensor, y: torch.Tensor, name: str) -> None:
    """That cross-entropy and accuracy, or the squared error, can be taken."""
    got = errors.describe(output=output, y=y)
    if data.task == "classification" and not (config.loss and config.metric):
        _check_labels(data, output, y, name, got)
    if data.task == "regression" and not config.loss and output.shape != y.shape and not is_column(output, y):
        fix = "return values of the shape of `y`; for classes return labels as whole numbers."
        raise _refused(name, "the output must have the shape of `y`.", got, fix)
    if data.task == "regression" and config.engine == "reference" and output.shape != y.shape:
        raise _refused(name, "engine=reference needs an output of the shape of `y`.", got, "return y as (N, 1).")


def _check_labels(data: Dataset, output: torch.Tensor, y: torch.Tensor, name: str, got: str) -> None:
    fits = output.ndim == y.ndim + 1 and output.shape[2:] == y.shape[1:] and output.shape[1] > 1
    if not fits:
        if output.shape[:-1] == y.shape and y.ndim > 1:
            fix = "move the classes there: output.movedim(-1, 1)."
        elif y.ndim == 2 and y.shape[1] == 1:
            fix = "return labels (N,): y[:, 0]."
        else:
            fix = "for values return `y` as floats; for another loss than cross-entropy give --loss and --metric."
        raise _refused(name, "for labels the output must have the classes in its second dimension.", got, fix)
    labels = np.concatenate([data.y_train.ravel(), data.y_test.ravel()])
    low, high, classes = int(labels.min()), int(labels.max()), output.shape[1]
    if low < 0 or high >= classes:
        rule = f"labels must lie in 0 to {classes - 1}, as the network has {classes} outputs."
        fix = "count them from 0, or give the network an output for each; others need --loss and --metric."
        raise _refused(name, rule, f"labels from {low} to {high}", fix)


def _check_loss(config: RunConfig, judge: Judge, output: torch.Tensor, y: torch.Tensor) -> None:
    if not config.loss:
        return
    try:
        loss: object = judge.loss(output, y)
    except Exception as error:
        raise errors.UsageError(errors.message(config.loss, raised(config.loss, error))) from error
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        got = errors.describe(loss=loss) if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise _refused(config.loss, "the loss must be a tensor of one number.", got, "end it in .mean().")
    if not loss.requires_grad or torch.autograd.grad(loss, output, allow_unused=True)[0] is None:
        fix = "compute it of `output` by torch alone, without item, detach, numpy or argmax."
        raise _refused(config.loss, "the loss must have a gradient with respect to the output.", "none", fix)


def _check_metric(config: RunConfig, judge: Judge, output: torch.Tensor, y: torch.Tensor) -> None:
    if not config.metric or judge.metric is None:
        return
    try:
        value: object = judge.metric(output, y)
    except Exception as error:
        raise errors.UsageError(errors.message(config.metric, raised(config.metric, error))) from error
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        got = errors.describe(metric=value) if hasattr(value, "shape") else type(value).__name__
        raise _refused(config.metric, "the metric must be one number.", got, "end it in .mean().") from None


def _refused(name: str, rule: str, got: str = "", fix: str = "") -> errors.UsageError:
    return errors.UsageError(errors.message(name, errors.Problem(rule, got=got, fix=fix)))
