"""The settings of one run: frozen, checked, written as TOML.

Every key that a user can set is a field here, under the name it has in `config.toml`
(`optimizer.lr`, `model.depth`), so that the file is the only thing needed to run it again.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from normlab import errors

Norm = Literal["none", "batch", "layer", "group", "instance", "rms"]

# what the first layer sees: the pixels as units, the image as one channel, the one number
INPUT_CHANNELS = {("digits", "mlp"): 64, ("digits", "conv"): 1, ("curve", "mlp"): 1}


class Frozen(BaseModel):
    """A config: immutable, unknown keys refused, readable from and writable to TOML."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_toml(self) -> str:
        return tomli_w.dumps(self.model_dump(mode="json"))

    @classmethod
    def from_toml(cls, text: str) -> Self:
        return cls.model_validate(tomllib.loads(text))


class Model(Frozen):
    """The network: `depth` hidden layers of `width` units (mlp) or channels (conv)."""

    kind: Literal["mlp", "conv"] = Field("mlp", description="fully connected, or 3 × 3 convolutions and a mean")
    depth: int = Field(8, ge=1, le=200, description="hidden layers")
    width: int = Field(64, ge=1, le=8192, description="units (mlp) or channels (conv) of each hidden layer")
    activation: Literal["tanh", "relu", "sigmoid"] = Field("tanh", description="tanh, relu or sigmoid")
    input_norm: bool = Field(False, description="normalize the input too, with the same norm")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the activations that is dropped in training")


class Init(Frozen):
    """Initial values of every linear and convolution layer."""

    weight_std: float = Field(0.05, ge=0, description="weights are drawn from N(0, weight_std²)")
    bias: float = Field(0.0, description="every bias starts at this value")


class Optimizer(Frozen):
    """How the weights move."""

    name: Literal["sgd", "adam"] = Field("sgd", description="sgd or adam")
    lr: float = Field(0.1, gt=0, description="learning rate")
    momentum: float = Field(0.0, ge=0, lt=1, description="of sgd; adam has its own and refuses this one")
    weight_decay: float = Field(0.0, ge=0, description="times the weight, added to its gradient")

    @model_validator(mode="after")
    def _momentum_is_of_sgd(self) -> Self:
        if self.name == "adam" and self.momentum:
            raise ValueError("optimizer.momentum belongs to sgd; with adam set optimizer.momentum=0")
        return self


class RunConfig(Frozen):
    """Everything that decides the numbers of one run."""

    schema_version: Literal[1] = 1
    data: Literal["digits", "curve"] = Field("digits", description="handwritten digits, or a noisy parabola")
    data_seed: int = Field(0, ge=0, lt=2**32, description="decides the split, or the noise of generated data")
    train_samples: int = Field(0, ge=0, description="train on so many samples only, spread over the set; 0 is all")
    model: Model = Model()
    norm: Norm = Field("none", description="none, batch, layer, group, instance or rms")
    norm_eps: float = Field(1e-5, gt=0, description="added to the variance")
    norm_momentum: float = Field(0.1, gt=0, le=1, description="weight of the new batch in the running statistics")
    norm_groups: int = Field(8, ge=1, description="groups of the group norm")
    init: Init = Init()
    optimizer: Optimizer = Optimizer()
    batch: int = Field(64, ge=2, description="samples in a training step")
    epochs: int = Field(15, ge=1, le=100_000, description="passes over the training set")
    seed: int = Field(0, ge=0, description="decides initial weights, batch order and dropout")
    target: float = Field(0.9, description="value of the test metric that counts as reached")
    threads: int = Field(1, ge=1, description="torch threads of the run; other counts give other bits")
    probe: int = Field(64, ge=2, description="training samples that the distributions are measured on")

    @model_validator(mode="after")
    def _norm_fits_model(self) -> Self:
        if (self.data, self.model.kind) not in INPUT_CHANNELS:
            raise ValueError(f"model.kind={self.model.kind} needs images; `{self.data}` has one number a sample")
        if self.norm not in ("none", "batch") and self.model.input_norm and self.data == "curve":
            raise ValueError(
                f"norm={self.norm} of the one input of `curve` leaves at most its sign, so nothing could be learned; "
                "use model.input_norm=false"
            )
        inputs = INPUT_CHANNELS[self.data, self.model.kind]
        for channels in (self.model.width, *([inputs] if self.model.input_norm else [])):
            if self.norm == "group" and channels % self.norm_groups:
                raise ValueError(f"norm_groups must divide the channels; {self.norm_groups} does not divide {channels}")
            if self.norm == "group" and self.model.kind == "mlp" and channels == self.norm_groups:
                raise ValueError(
                    f"norm_groups={channels} leaves one of {channels} units in a group: its output would be the bias "
                    "whatever the input; use fewer groups"
                )
        if self.norm == "instance" and self.model.kind == "mlp":
            raise ValueError(
                "norm=instance takes its moments over positions, and a unit of an mlp has only one: "
                "its output would be the bias whatever the input; use model.kind=conv"
            )
        return self

    def digest(self) -> str:
        """Eight hex digits that name this config: equal configs, equal digests.

        Only what differs from the defaults counts, so that a key added later leaves earlier names as they were.
        """
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:8]


def described(config: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a config in dotted form, with what it is.

    Example:
        >>> list(described(Init))[1]
        ('bias', 'every bias starts at this value')
    """
    for name, field in config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from described(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description or ""


def keys(config: type[BaseModel]) -> list[str]:
    """Every key of a config in dotted form.

    Example:
        >>> keys(Init)
        ['weight_std', 'bias']
    """
    return [key for key, _ in described(config)]


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """The config with some dotted keys changed, checked as a whole.

    Raises:
        UsageError: a key does not exist or a value does not fit; every such problem is named.

    Example:
        >>> with_settings(RunConfig(), {"optimizer.lr": "0.5"}).optimizer.lr
        0.5
    """
    known = [key for key in keys(RunConfig) if key != "schema_version"]
    unknown = [key for key in settings if key not in known]
    if unknown:
        problems = [errors.Problem(f"`{key}` is not a key.", fix=errors.did_you_mean(key, known)) for key in unknown]
        raise errors.UsageError(errors.message("compare", *problems))
    values = config.model_dump()
    for key, value in settings.items():
        *path, last = key.split(".")
        place = values
        for part in path:
            place = place[part]
        place[last] = value
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise errors.UsageError(errors.message("compare", *validation_problems(error))) from None


def validation_problems(error: ValidationError) -> list[errors.Problem]:
    """What pydantic found, one problem for each broken rule."""
    problems = []
    for item in error.errors():
        if item["type"] == "value_error":
            problems.append(errors.Problem(item["msg"].removeprefix("Value error, ") + "."))
            continue
        key = ".".join(str(part) for part in item["loc"])
        choices = re.findall(r"'([^']+)'", item.get("ctx", {}).get("expected", ""))
        fix = errors.did_you_mean(str(item["input"]), choices) if choices else ""
        rule = item["msg"][0].lower() + item["msg"][1:]
        problems.append(errors.Problem(f"`{key}`: {rule}.", got=repr(item["input"]), fix=fix))
    return problems


def setting(config: RunConfig, key: str) -> Any:
    """The value under a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def plain(value: Any) -> str:
    """A value as it is written on the command line.

    Example:
        >>> plain(True), plain(0.1)
        ('true', '0.1')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)
