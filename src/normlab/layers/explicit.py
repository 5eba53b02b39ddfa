"""Running statistics that say what they do: what normalizes, what is committed, by which rule, and what is refused."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from normlab import errors
from normlab.kernels.pick import transformed
from normlab.layers.rule import RULES, Rule, new_share
from normlab.ops.batch_norm import batch_norm_with, moments_of
from normlab.ops.moments import Moments

Statistics = Literal["mode", "batch", "running"]
When = Literal["mode", "always", "never"]
CHOICES = {"normalize_with": ("mode", "batch", "running"), "commit_when": ("mode", "always", "never"), "rule": RULES}
NARROW = (torch.float16, torch.bfloat16)


class Explicit(nn.modules.batchnorm._NormBase):
    """What batch and instance norm share. The options have their defaults on the class, so that a layer of PyTorch
    becomes one of ours by its class alone."""

    normalize_with: Statistics = "mode"
    commit_when: When = "mode"
    rule: Rule = "ema"
    axis: int = 1
    # a scope that takes the commits of this layer for itself: `accumulate`, `functional_call`
    taker: Callable[["Explicit", Moments], None] | None = None
    suffix: str = ""  # of the names of the buffers that are in use: each domain has its own
    skipped_recomputed: int = 0
    skipped_non_finite: Tensor | None
    OPTIONS: tuple[str, ...] = ("normalize_with", "commit_when", "rule", "axis")

    def set_options(self, **options: Any) -> None:
        """Sets what is ours, after looking at it.

        Raises:
            InvalidInputError: there is no such option, or no such value.
        """
        problems = []
        for name, value in options.items():
            if name not in self.OPTIONS:
                fix = errors.did_you_mean(name, self.OPTIONS)
                problems.append(errors.Problem(f"`{name}` is not an option.", fix=fix))
            elif name in CHOICES and value not in CHOICES[name]:
                rule = f"`{name}` must be one of {', '.join(CHOICES[name])}."
                problems.append(
                    errors.Problem(rule, got=repr(value), fix=errors.did_you_mean(str(value), CHOICES[name]))
                )
        errors.invalid_input(type(self).__name__, problems)
        for name, value in options.items():
            if value != getattr(type(self), name):
                setattr(self, name, value)

    def count_skipped(self) -> None:
        """Makes room for the count of what was skipped, which is not among what is saved: the keys stay PyTorch's."""
        if "skipped_non_finite" not in self._buffers:
            running = self.running_var
            zero = None if running is None else torch.zeros((), dtype=torch.int64, device=running.device)
            self.register_buffer("skipped_non_finite", zero, persistent=False)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        self._check_channels(input)
        mean, var, _ = self.running()
        commit = self._commits()
        if self._by_batch() or mean is None or var is None:
            y, found = self._by_batch_statistics(input, mask, commit)
        else:
            y = batch_norm_with(input, mean, var, self.weight, self.bias, eps=self.eps, axis=self.axis)
            found = [moments_of(input, axis=self.axis, mask=mask)] if commit else []
        for moments in found:
            self.commit(*moments)
        return y

    def commit(self, mean: Tensor, var: Tensor, count: Tensor | int) -> None:
        """Takes the statistics of a batch into the running ones.

        Nothing is taken of statistics that are not finite, nor of a forward that activation checkpointing repeats
        inside of backward; `skipped_non_finite` and `skipped_recomputed` count them.

        Shape:
            mean, var: (C,).

        Args:
            mean: of the batch.
            var: of the batch, unbiased.
            count: values behind each of them. The variance of a single value is not known, and is left as it was.
        """
        if _in_backward():
            self.skipped_recomputed += 1
        elif self.taker is not None:
            self.taker(self, Moments(mean, var, count))
        else:
            self.write(Moments(mean, var, count))

    @torch.no_grad()
    def updated(self, moments: Moments) -> dict[str, Tensor]:
        """The running statistics after a commit, as new tensors; nothing is changed in place."""
        mean, var, commits = self.running()
        if mean is None or var is None or not moments.var.numel():
            return {}
        # what is not finite in x or in its mean is not in the variance; and a mask may have left nothing
        finite = moments.var.amax().isfinite()
        taken = finite & (moments.count > 0)
        share = new_share(self.rule, self.momentum, commits)
        share = share.to(mean) if isinstance(share, Tensor) else share
        spread = finite & (moments.count > 1)
        new = {
            "running_mean" + self.suffix: torch.where(taken, mean.lerp(moments.mean.to(mean), share), mean),
            "running_var" + self.suffix: torch.where(spread, var.lerp(moments.var.to(var), share), var),
        }
        if commits is not None and self._counts:
            new["num_batches_tracked" + self.suffix] = commits + taken
        if (skipped := self._buffers["skipped_non_finite"]) is not None:
            new["skipped_non_finite"] = skipped + ~finite
        return new

    def running(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Running mean and variance, and the number of commits: those in use."""
        held, suffix = self._buffers, self.suffix
        return held["running_mean" + suffix], held["running_var" + suffix], held["num_batches_tracked" + suffix]

    def reset_running_stats(self) -> None:
        super().reset_running_stats()
        self.skipped_recomputed = 0
        if (skipped := self._buffers.get("skipped_non_finite")) is not None:  # PyTorch resets before there is one
            skipped.zero_()

    def extra_repr(self) -> str:
        ours = [
            f"{name}={value}" for name in self.OPTIONS if (value := getattr(self, name)) != getattr(type(self), name)
        ]
        return ", ".join([super().extra_repr(), *ours])  # type: ignore[no-untyped-call]

    _counts = True  # whether `num_batches_tracked` moves

    def _by_batch(self) -> bool:
        return self.training if self.normalize_with == "mode" else self.normalize_with == "batch"

    def _commits(self) -> bool:
        if self._buffers["running_mean"] is None or not self.track_running_stats:
            return False
        return self.training if self.commit_when == "mode" else self.commit_when == "always"

    def _by_batch_statistics(self, x: Tensor, mask: Tensor | None, commit: bool) -> tuple[Tensor, list[Moments]]:
        """The output, and what is to be committed: nothing, or more than one where the batch is taken in parts."""
        raise NotImplementedError

    def write(self, moments: Moments) -> None:
        """Puts the statistics after a commit in the place of the running ones, whoever may have claimed the commit."""
        if _can_look_at(moments.var) and isinstance(moments.count, int) and moments.count > 1:
            self._write_at_once(moments)
            return
        if transformed():
            rule = "inside of a transform of torch.func the running statistics cannot be changed in place."
            fix = (
                "call the model by `normlab.functional_call`, which returns the new ones, or in `normlab.stats_frozen`."
            )
            errors.invalid_input(type(self).__name__, [errors.Problem(rule, fix=fix)])
        for name, value in self.updated(moments).items():
            self.get_buffer(name).copy_(value)

    def refuse(self) -> None:
        """Counts statistics that were not finite."""
        if (skipped := self._buffers["skipped_non_finite"]) is not None:
            skipped.add_(1)

    def _write_at_once(self, moments: Moments) -> None:
        """The same in place and in fewer steps: 10 µs of the 30 that a small batch takes."""
        mean, var, commits = self.running()
        if mean is None or var is None or not moments.var.numel():
            return
        if not math.isfinite(moments.var.amax().item()):
            self.refuse()
            return
        share = new_share(self.rule, self.momentum, commits)
        share = share.to(mean) if isinstance(share, Tensor) else share
        mean.lerp_(moments.mean.to(mean.dtype), share)
        var.lerp_(moments.var.to(var.dtype), share)
        if commits is not None and self._counts:
            commits.add_(1)

    def _check_channels(self, x: Tensor) -> None:
        if x.shape[self.axis] != self.num_features:
            where = type(self).__name__
            rule = f"`input` must have {self.num_features} channels in dimension {self.axis}."
            fix = f"build the layer as {where}({x.shape[self.axis]})."
            errors.invalid_input(where, [errors.Problem(rule, got=errors.describe(input=x), fix=fix)])

    def _check_values(self, x: Tensor) -> None:
        """Of a single value the variance is 0, and the output would be the bias."""
        if x.numel() == self.num_features:
            where = type(self).__name__
            fix = "pass more samples (`drop_last=True` for the last of a loader), or `eval()` if this is evaluation."
            rule = "Expected more than 1 value per channel when training."
            errors.invalid_input(where, [errors.Problem(rule, got=errors.describe(input=x), fix=fix)])

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """`half()` and its like leave the running statistics in float32: a variance above 65,504 would be infinite."""
        wide = {name: each for name, each in self._buffers.items() if each is not None and each.is_floating_point()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in wide.items():
            after = self.get_buffer(name)
            if after.dtype in NARROW and before.dtype not in NARROW:
                self._buffers[name] = before.to(after.device)
        return self


def explicit_layers(model: nn.Module) -> Iterator[Explicit]:
    """The layers of a model whose statistics are explicit."""
    return (each for each in model.modules() if isinstance(each, Explicit))


def _in_backward() -> bool:
    """Whether this forward is repeated by activation checkpointing. A compiled graph repeats without the commit."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _can_look_at(value: Tensor) -> bool:
    """Whether asking for the value of a number costs nothing: on a GPU it waits, and a tracer has none."""
    return value.device.type == "cpu" and not torch.compiler.is_compiling() and not transformed()
