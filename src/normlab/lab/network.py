"""The network of a run, one of the lab's or the user's, and what is said of it."""

from dataclasses import asdict
from typing import Any

from torch import nn

from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.models import build_model
from normlab.lab.own_model import own_model
from normlab.lab.sites import Norm, Weights
from normlab.tools.report import Report


def network(config: RunConfig, data: Dataset) -> tuple[nn.Module, Report | None]:
    """The network that the config names, with its initial weights; of the user's, which norms were swapped.

    Raises:
        UsageError: the network does not take the data.
    """
    if config.model.kind == "own":
        return own_model(config, data)
    return build_model(config, data), None


def described_network(model: nn.Module, swapped: Report | None) -> dict[str, Any]:
    """Its size, and its layers with weights or a norm: `model.json` of a run."""
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "buffers": sum(buffer.numel() for buffer in model.buffers()),
        "layers": {
            name: f"{type(module).__name__}({module.extra_repr()})"
            for name, module in model.named_modules()
            if isinstance(module, (Weights, Norm))
        },
        "swapped": _swapped(swapped) if swapped else None,
    }


def _swapped(report: Report) -> dict[str, Any]:
    """In the words of the records, which are older than those of the report."""
    return {
        "swapped": [
            {"name": each.name, "before": each.layer, "after": each.change.removeprefix("to ")}
            for each in report.touched
        ],
        "kept": [asdict(each) for each in report.skipped],
    }
