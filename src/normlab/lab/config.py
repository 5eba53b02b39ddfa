"""The settings of one run: frozen, checked, written as TOML.

Every key that a user can set is a field here, under the name it has in `config.toml`
(`optimizer.lr`, `model.depth`), so that the file is the only thing needed to run it again.
"""

import hashlib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from normlab import errors
from normlab.lab.data.forms import FORMS, is_own
from normlab.lab.fit import check_engine, check_network, check_norm

Norm = Literal["none", "batch", "layer", "group", "instance", "rms"]
Kind = Literal["mlp", "conv", "lenet", "resnet", "densenet", "volumes", "own"]


def absolute(name: str) -> str:
    """`FILE.py:FUNCTION` with the whole path of the file, so that it is found from any folder; others as they are.

    Example:
        >>> absolute("package.module:make")
        'package.module:make'
    """
    where, colon, function = name.rpartition(":")
    return f"{os.path.abspath(where)}:{function}" if colon and where.endswith(".py") else name


class Frozen(BaseModel):
    """A config: immutable, unknown keys refused, readable from and writable to TOML."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_toml(self) -> str:
        return tomli_w.dumps(self.model_dump(mode="json"))

    @classmethod
    def from_toml(cls, text: str) -> Self:
        return cls.model_validate(tomllib.loads(text))


class Model(Frozen):
    """The network: one of the kinds here, or the user's own."""

    kind: Kind = Field("mlp", description="mlp, conv, lenet, resnet, densenet, volumes; own is made by model.factory")
    factory: str = Field("", description="FILE.py:FUNCTION or MODULE:FUNCTION that returns your own network")
    depth: int = Field(8, ge=1, le=1000, description="hidden layers; of a resnet 6n + 2, of a densenet 6n + 4")
    width: int = Field(64, ge=1, le=8192, description="units (mlp) or channels of the hidden layers, or of the first")
    growth: int = Field(12, ge=1, le=1024, description="channels that each layer of a densenet adds")
    activation: Literal["tanh", "relu", "sigmoid", "leaky_relu"] = Field(
        "tanh", description="tanh, relu, sigmoid or leaky_relu (slope 0.2)"
    )
    input_norm: bool = Field(False, description="normalize the input too, with the same norm (mlp, conv)")
    bias: bool = Field(True, description="whether the layers before a norm have a bias")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the activations that is dropped in training")

    @field_validator("factory")
    @classmethod
    def _factory_is_absolute(cls, name: str) -> str:
        return absolute(name)


class Init(Frozen):
    """Initial values of every linear and convolution layer."""

    scheme: Literal["normal", "he", "own"] = Field(
        "normal", description="normal: N(0, weight_std²); he: N(0, 2 / fan-in); own: as your model comes"
    )
    weight_std: float = Field(0.05, ge=0, description="standard deviation of the weights in the scheme normal")
    bias: float = Field(0.0, description="every bias starts at this value")


class Optimizer(Frozen):
    """How the weights move."""

    name: Literal["sgd", "adam", "rmsprop"] = Field("sgd", description="sgd, adam or rmsprop")
    lr: float = Field(0.1, gt=0, description="learning rate of the first epoch")
    lr_decay: float = Field(1.0, gt=0, le=1, description="times the learning rate of the epoch before")
    momentum: float = Field(0.0, ge=0, lt=1, description="of sgd; the others have their own and refuse this one")
    weight_decay: float = Field(0.0, ge=0, description="times the weight, added to its gradient")

    @model_validator(mode="after")
    def _momentum_is_of_sgd(self) -> Self:
        if self.name != "sgd" and self.momentum:
            raise ValueError(f"optimizer.momentum belongs to sgd; with {self.name} set optimizer.momentum=0")
        return self


class RunConfig(Frozen):
    """Everything that decides the numbers of one run."""

    schema_version: Literal[1] = 1
    engine: Literal["torch", "reference"] = Field("torch", description="what trains: torch, or the NumPy reference")
    data: str = Field(
        "digits",
        description="digits, curve, blobs, volumes; mnist=PATH, fashion_mnist=PATH, cifar10=PATH, cifar100=PATH; "
        "or FILE.py:FUNCTION",
    )
    data_seed: int = Field(0, ge=0, lt=2**32, description="decides the split, or the noise of generated data")
    train_samples: int = Field(0, ge=0, description="train on so many samples only, spread over the set; 0 is all")
    task: Literal["", "classification", "regression"] = Field(
        "", description="of your own data: found when it is loaded; known of the others"
    )
    model: Model = Model()
    norm: Norm = Field("none", description="none, batch, layer, group, instance or rms")
    norm_eps: float = Field(1e-5, gt=0, description="added to the variance")
    norm_momentum: Annotated[float, Field(ge=0, le=1)] | Literal["average", "pooled"] = Field(
        0.1,
        description="weight of the new batch in the running statistics, 0 never moves them; average or pooled: from "
        "the whole training set before each evaluation, as the mean over batches or pooled by count",
    )
    norm_groups: int = Field(8, ge=1, description="groups of the group norm")
    init: Init = Init()
    optimizer: Optimizer = Optimizer()
    batch: int = Field(64, ge=2, description="samples in a training step")
    epochs: int = Field(15, ge=1, le=100_000, description="passes over the training set")
    seed: int = Field(0, ge=0, description="decides initial weights, batch order and dropout")
    loss: str = Field("", description="FILE.py:FUNCTION of (output, y); by default cross-entropy or squared error")
    metric: str = Field("", description="FILE.py:FUNCTION of (output, y); by default accuracy or squared error")
    goal: Literal["max", "min"] = Field("max", description="of your own metric: whether more is better or less")
    target: float = Field(0.9, description="value of the test metric that counts as reached")
    dtype: Literal["float32", "float64"] = Field("float32", description="of data, weights and statistics")
    threads: int = Field(1, ge=1, description="torch threads of the run; other counts give other bits")
    processes: int = Field(1, ge=1, description="processes that share each batch, set by torchrun")
    probe: int = Field(64, ge=2, description="training samples that the distributions are measured on")
    eval_batch: int = Field(1000, ge=1, description="test samples evaluated at once; 1 is one at a time")

    @field_validator("data")
    @classmethod
    def _data_is_known(cls, data: str) -> str:
        name, _, path = data.partition("=")
        if is_own(data):
            return absolute(data)
        if name not in FORMS:
            known = [f"{each}=PATH" if form.from_files else each for each, form in FORMS.items()]
            fix = errors.did_you_mean(name, [*known, "FILE.py:FUNCTION"]).rstrip(".")
            raise ValueError(f"there is no data set `{name}`; {fix}")
        if FORMS[name].from_files and not path:
            raise ValueError(f"`{name}` is read from its original files: write data={name}=PATH")
        if path and not FORMS[name].from_files:
            raise ValueError(f"`{name}` has no files: write data={name}")
        return f"{name}={os.path.abspath(os.path.expanduser(path))}" if path else name

    @field_validator("loss", "metric")
    @classmethod
    def _own_is_absolute(cls, name: str) -> str:
        return absolute(name)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        for check in (check_network, check_norm, check_engine):
            check(self)
        return self

    @property
    def running_momentum(self) -> float:
        """Of the running statistics while training; `average` and `pooled` replace them before each evaluation."""
        return 0.1 if isinstance(self.norm_momentum, str) else self.norm_momentum

    def digest(self) -> str:
        """Eight hex digits that name this config: equal configs, equal digests.

        Only what differs from the defaults counts, so that a key added later leaves earlier names as they were.
        """
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:8]


def described(config: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a config in dotted form, with what it is.

    Example:
        >>> list(described(Init))[2]
        ('bias', 'every bias starts at this value')
    """
    for name, field in config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from described(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description or ""


def nearest_key(word: str, known: Sequence[str]) -> str:
    """The next step for a key that does not exist: the one that ends so, or the nearest.

    Example:
        >>> nearest_key("lr", ["optimizer.lr", "epochs"]), nearest_key("epoch", ["optimizer.lr", "epochs"])
        ('did you mean `optimizer.lr`?', 'did you mean `epochs`?')
    """
    ends = [key for key in known if key.rpartition(".")[2] == word]
    return errors.did_you_mean(ends[0] if len(ends) == 1 else word, known)


def keys(config: type[BaseModel]) -> list[str]:
    """Every key of a config in dotted form.

    Example:
        >>> keys(Init)
        ['scheme', 'weight_std', 'bias']
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
        problems = [errors.Problem(f"`{key}` is not a key.", fix=nearest_key(key, known)) for key in unknown]
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
            problems.append(errors.Problem(_sentence(item["msg"].removeprefix("Value error, "))))
            continue
        key = ".".join(str(part) for part in item["loc"])
        choices = re.findall(r"'([^']+)'", item.get("ctx", {}).get("expected", ""))
        fix = errors.did_you_mean(str(item["input"]), choices) if choices else ""
        rule = item["msg"][0].lower() + item["msg"][1:]
        problems.append(errors.Problem(f"`{key}`: {rule}.", got=repr(item["input"]), fix=fix))
    return problems


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


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
