"""Running statistics that say what they do: what normalizes, what is committed, by which rule, and what is refused."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._C import _current_graph_task_id
from torch.compiler import is_compiling
from torch.fx import Proxy

from normlab import errors
from normlab.kernels.pick import transformed
from normlab.layers.rule import RULES, Rule, new_share
from normlab.ops.batch_norm import batch_norm_with, moments_of
from normlab.ops.moments import Moments, merge

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
    # a scope that takes what a forward would commit for itself: `accumulate`, `functional_call`
    taker: Callable[["Explicit", list[Moments]], None] | None = None
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
        problems += [] if problems else self._contradictions(options)
        errors.invalid_input(type(self).__name__, problems)
        for name, value in options.items():
            if value != getattr(type(self), name):
                setattr(self, name, value)
            else:
                self.__dict__.pop(name, None)

    def _contradictions(self, options: dict[str, Any]) -> Iterator[errors.Problem]:
        if not isinstance(options.get("axis", 1), int):
            yield errors.Problem("`axis` must be a whole number.", got=repr(options["axis"]))
        if self._buffers["running_mean"] is None:
            for name, wanted in (("normalize_with", "running"), ("commit_when", "always")):
                if options.get(name) == wanted:
                    rule = f"`{name}` cannot be {wanted} where there are no running statistics."
                    yield errors.Problem(rule, fix="build the layer with track_running_stats=True.")

    def widen(self) -> None:
        """Running statistics of a new layer in float32 at least, whatever the parameters are in."""
        for name, held in self._buffers.items():
            if held is not None and held.dtype in NARROW:
                self._buffers[name] = held.float()

    def count_skipped(self) -> None:
        """Makes room for the count of what was skipped, which is not among what is saved: the keys stay PyTorch's."""
        if "skipped_non_finite" not in self._buffers:
            running = self.running_var
            zero = None if running is None else torch.zeros((), dtype=torch.int64, device=running.device)
            self.register_buffer("skipped_non_finite", zero, persistent=False)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        if is_traced(input):
            y: Tensor = self._as_leaf(input, mask)
            return y
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        self._check_channels(input)
        mean, var, _ = self.running()
        commit = self._commits()
        if self._by_batch() or mean is None or var is None:
            y, found = self._by_batch_statistics(input, mask, commit)
        else:
            how: dict[str, Any] = {"eps": self.eps, "axis": self.axis, "mask": mask}
            if commit:
                self._refuse_to_repeat()
            y = batch_norm_with(input, mean, var, self.weight, self.bias, **how)
            found = [self._moments(input, mask)] if commit else []
        if found:
            self._commit(found)
        return y

    def commit(self, mean: Tensor, var: Tensor, count: Tensor | int) -> None:
        """Takes the statistics of a batch into the running ones.

        Nothing is taken of statistics that are not finite, nor of a forward inside of backward, which is one that
        activation checkpointing repeats; `skipped_non_finite` and `skipped_recomputed` count them.

        Shape:
            mean, var: (C,).

        Args:
            mean: of the batch.
            var: of the batch, unbiased.
            count: values behind each of them. The variance of a single value is not known, and is left as it was.
        """
        self._commit([Moments(mean, var, count)])

    def pooled(self, one: Moments, other: Moments) -> Moments:
        """What would have been committed if two batches had been one."""
        return merge(one, other)

    @torch.no_grad()
    def updated(self, moments: Moments) -> dict[str, Tensor]:
        """The running statistics after a commit, as new tensors; nothing is changed in place."""
        mean, var, commits = self.running()
        if mean is None or var is None or not moments.var.numel():
            return {}
        new_mean, new_var = moments.mean.to(mean), moments.var.to(var)
        finite = self._finite(new_mean, new_var)
        taken = finite & (moments.count > 0)  # a mask may have left nothing
        share = new_share(self.rule, self.momentum, commits if self._counts else None)
        share = share.to(mean) if isinstance(share, Tensor) else share
        spread = finite & (moments.count > 1)
        new = {
            "running_mean" + self.suffix: torch.where(taken, mean.lerp(new_mean, share), mean),
            "running_var" + self.suffix: torch.where(spread, var.lerp(new_var, share), var),
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

    def _moments(self, x: Tensor, mask: Tensor | None) -> Moments:
        """What is to be committed of a batch that is normalized by the running statistics."""
        return moments_of(x, axis=self.axis, mask=mask)

    def _commit(self, found: list[Moments]) -> None:
        """Of one forward."""
        if in_backward():
            self.skipped_recomputed += 1
        elif self.taker is not None:
            self.taker(self, found)
        else:
            for moments in found:
                self.write(moments)

    def _refuse_to_repeat(self) -> None:
        """For an output that depends on running statistics which the first forward has moved."""
        if in_backward() and self.taker is not let_fall:
            rule = "it cannot be under activation checkpointing: the repeated forward finds other running statistics."
            got = "a forward inside of backward, normalized by running statistics that forwards move"
            fix = "take the layer out of the checkpoint, or go through both in `normlab.stats_frozen`."
            errors.invalid_input(type(self).__name__, [errors.Problem(rule, got=got, fix=fix)])

    @staticmethod
    def _finite(mean: Tensor, var: Tensor) -> Tensor:
        """Whether all of it is; in the dtype that it is kept in, which may be narrower than that of the moments."""
        return mean.abs().amax().isfinite() & var.amax().isfinite()

    def _as_leaf(self, input: Any, *others: Any) -> Any:
        """`torch.fx` takes the layers of PyTorch as a whole; so it does ours."""
        given = [input, *others]
        while given[-1] is None:
            given.pop()
        return input.tracer.create_proxy("call_module", input.tracer.path_of_module(self), tuple(given), {})

    def write(self, moments: Moments) -> None:
        """Puts the statistics after a commit in the place of the running ones, whoever may have claimed the commit."""
        if transformed():
            rule = "inside of a transform of torch.func the running statistics cannot be changed in place."
            fix = (
                "call the model by `normlab.functional_call`, which returns the new ones, or in `normlab.stats_frozen`."
            )
            errors.invalid_input(type(self).__name__, [errors.Problem(rule, fix=fix)])
        for name, value in self.updated(moments).items():
            self.get_buffer(name).copy_(value)

    def refuse(self, whether: Tensor | bool = True) -> None:
        """Counts statistics that were not finite."""
        if (skipped := self._buffers["skipped_non_finite"]) is not None:
            skipped.add_(whether)

    def take(self, new_mean: Tensor, new_var: Tensor) -> None:
        """Puts these in the place of the running statistics, unless they are not finite."""
        mean, var, commits = self.running()
        if mean is None or var is None or commits is None or not new_var.numel():
            return
        if not _can_look_at(new_var):
            finite = new_var.amax().isfinite()
            mean.copy_(torch.where(finite, new_mean, mean))
            var.copy_(torch.where(finite, new_var, var))
            commits.add_(finite)
            self.get_buffer("skipped_non_finite").add_(~finite)
        elif math.isfinite(new_var.amax().item()):
            mean.copy_(new_mean)
            var.copy_(new_var)
            commits.add_(1)
        else:
            self.refuse()

    def _check_channels(self, x: Tensor) -> None:
        where = type(self).__name__
        if not -x.ndim <= self.axis < x.ndim:
            rule = f"`axis` must lie in [{-x.ndim}, {x.ndim - 1}], the dimensions of `input`."
            got = f"axis = {self.axis}; {errors.describe(input=x)}"
            errors.invalid_input(where, [errors.Problem(rule, got=got)])
        if x.shape[self.axis] != self.num_features:
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
        nowhere = any(each is not None and each.is_meta for each in self._buffers.values())
        wide = {name: each for name, each in self._buffers.items() if each is not None and each.is_floating_point()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in wide.items():
            after = self.get_buffer(name)
            if after.dtype in NARROW and before.dtype not in NARROW:
                self._buffers[name] = before.to(after.device)
        skipped = self._buffers.get("skipped_non_finite")
        if nowhere and skipped is not None and not skipped.is_meta:
            skipped.zero_()  # it is not among what is loaded
        return self

    def __getstate__(self) -> dict[str, Any]:
        """A copy made inside of a scope is not in it."""
        return {name: value for name, value in self.__dict__.items() if name not in ("taker", "held")}


def let_fall(layer: Explicit, found: list[Moments]) -> None:
    """Takes what would be committed, and commits nothing."""


def explicit_layers(model: nn.Module) -> list[Explicit]:
    """The layers of a model whose statistics are explicit."""
    return [each for each in model.modules() if isinstance(each, Explicit)]


def is_traced(x: Any) -> bool:
    """Whether `torch.fx` is following what becomes of it."""
    return isinstance(x, Proxy)


def in_backward() -> bool:
    """Whether this forward is repeated by activation checkpointing. A compiled graph repeats without the commit."""
    return not is_compiling() and _current_graph_task_id() != -1


def _can_look_at(value: Tensor) -> bool:
    """Whether asking for the value of a number costs nothing: on a GPU it waits, and a tracer or a fake has none."""
    plain = type(value) is Tensor and value.device.type == "cpu"
    return plain and not is_compiling() and not transformed()
