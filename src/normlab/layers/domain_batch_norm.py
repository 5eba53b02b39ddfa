"""Batch norm with running statistics for each of several domains, and one weight and bias for all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from normlab import errors
from normlab.layers.a_model import not_a_model
from normlab.layers.batch_norm import BatchNormOptions

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class _Domains(BatchNormOptions):
    """The first domain has the names of PyTorch's buffers; those of the others end in theirs."""

    def __init__(self, num_features: int, domains: Sequence[str], **arguments: Any) -> None:
        where = type(self).__name__
        problems = []
        if len(set(domains)) < len(domains) or not domains or isinstance(domains, str):
            problems.append(errors.Problem("`domains` must be different names, at least one.", got=repr(domains)))
        elif not all(isinstance(each, str) and each.isidentifier() for each in domains):
            problems.append(errors.Problem("`domains` must be names as variables have them.", got=repr(domains)))
        errors.invalid_input(where, problems)
        super().__init__(num_features, **arguments)
        self.domains = tuple(domains)
        self.domain = self.domains[0]
        for name in self.domains[1:]:
            for statistic in STATISTICS:
                first = self._buffers[statistic]
                self.register_buffer(f"{statistic}_{name}", None if first is None else first.clone())

    def choose(self, domain: str) -> None:
        """From now on the batches are of this domain.

        Raises:
            InvalidInputError: there is no such domain.
        """
        if domain not in self.domains:
            fix = errors.did_you_mean(domain, self.domains)
            problem = errors.Problem("`domain` must be one of the layer's.", got=repr(domain), fix=fix)
            errors.invalid_input(type(self).__name__, [problem])
        self.domain = domain
        self.suffix = "" if domain == self.domains[0] else f"_{domain}"

    def reset_running_stats(self) -> None:
        super().reset_running_stats()
        for name, value in self._buffers.items():
            first = self._buffers.get(next((each for each in STATISTICS if name.startswith(f"{each}_")), ""))
            if value is not None and first is not None:
                value.copy_(first)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """What was saved of a layer without domains is taken for each of them."""
        filled = dict(state_dict)
        for name in self.domains[1:]:
            for statistic in STATISTICS:
                if prefix + statistic in filled:
                    filled.setdefault(f"{prefix}{statistic}_{name}", filled[prefix + statistic])
                elif statistic == "num_batches_tracked" and prefix + "running_mean" in filled:
                    filled.setdefault(f"{prefix}{statistic}_{name}", torch.tensor(0))  # saved before torch 0.4.1
        super()._load_from_state_dict(filled, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, domains={self.domains}"


@contextmanager
def domain(model: nn.Module, name: str) -> Iterator[None]:
    """Batches inside are of this domain, for every layer of a model that has domains.

    Args:
        model: with layers `DomainBatchNorm1d` and its like.
        name: of the domain.

    Raises:
        InvalidInputError: a layer does not have that domain, or no layer has any.

    Example:
        >>> layer = DomainBatchNorm1d(1, ["real", "fake"], momentum=1.0)
        >>> with domain(layer, "fake"):
        ...     y = layer(torch.tensor([[4.0], [6.0]]))
        >>> layer.running_mean, layer.running_mean_fake
        (tensor([0.]), tensor([5.]))
    """
    problems = not_a_model(model)
    layers = [] if problems else [each for each in model.modules() if isinstance(each, _Domains)]
    if not problems and not layers:
        fix = "build its norms as DomainBatchNorm2d(channels, domains=[…])."
        problems.append(errors.Problem("`model` must have layers with domains.", got=type(model).__name__, fix=fix))
    errors.invalid_input("domain", problems)
    before = [each.domain for each in layers]
    try:
        for each in layers:
            each.choose(name)
        yield
    finally:
        for each, earlier in zip(layers, before, strict=True):
            each.choose(earlier)


class DomainBatchNorm1d(_Domains, nn.BatchNorm1d):
    """Batch norm with running statistics for each of several domains, and one weight and bias for all.

    Which one a batch is of is said by `with domain(model, name):`, or for good by `layer.choose(name)`.

    Shape:
        (N, C) or (N, C, L), or the channels on another `axis` → the same.

    Args:
        num_features: channels.
        domains: their names. The first has the buffers of PyTorch's layer, and a state saved from that layer is loaded
            into all of them.
        arguments: those of `BatchNorm1d`.

    Raises:
        InvalidInputError: the names are not different, or not those of variables.

    Source:
        Li et al. (2016), adaptive batch normalization. In Chang et al. (2019) weight and bias are by domain as well.
    """


class DomainBatchNorm2d(_Domains, nn.BatchNorm2d):
    """Batch norm with running statistics for each of several domains; see `DomainBatchNorm1d`.

    Shape:
        (N, C, H, W) → the same.
    """


class DomainBatchNorm3d(_Domains, nn.BatchNorm3d):
    """Batch norm with running statistics for each of several domains; see `DomainBatchNorm1d`.

    Shape:
        (N, C, D, H, W) → the same.
    """
