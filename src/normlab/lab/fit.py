"""Whether the parts of a config fit one another, checked before anything is loaded or built."""

from typing import TYPE_CHECKING

from normlab.lab.channels import norm_channels
from normlab.lab.data.forms import Form, form_of

if TYPE_CHECKING:
    from normlab.lab.config import RunConfig

# dimensions of the positions that each kind of network takes; an mlp flattens whatever it gets
SPATIAL = {"conv": 2, "lenet": 2, "resnet": 2, "densenet": 2, "volumes": 3}
MOST_VOLUME_LAYERS = 5
REFERENCE_KINDS = ("mlp", "conv")


def check_network(config: "RunConfig") -> None:
    """Raises ValueError if the network cannot take the data, or a setting does not belong to it."""
    model, form = config.model, form_of(config.data)
    if (model.kind == "own") != bool(model.factory):
        raise ValueError("model.kind=own and model.factory go together: write --model FILE.py:FUNCTION")
    if form is not None and SPATIAL.get(model.kind, form.spatial) != form.spatial:
        what = {0: "no positions", 2: "images", 3: "volumes"}
        raise ValueError(
            f"model.kind={model.kind} needs {what[SPATIAL[model.kind]]}; `{config.data}` has {what[form.spatial]}"
        )
    if model.kind == "resnet" and (model.depth < 8 or (model.depth - 2) % 6):
        raise ValueError(f"model.depth of a resnet is 6n + 2 (8, 14, 20, 32, …), not {model.depth}")
    if model.kind == "densenet" and (model.depth < 10 or (model.depth - 4) % 6):
        raise ValueError(f"model.depth of a densenet is 6n + 4 (10, 22, 40, 100, …), not {model.depth}")
    if model.kind == "volumes" and model.depth > MOST_VOLUME_LAYERS:
        raise ValueError(
            f"model.depth of volumes is at most {MOST_VOLUME_LAYERS}, not {model.depth}: each layer halves the "
            "positions and doubles the channels"
        )
    if model.input_norm and model.kind not in ("mlp", "conv"):
        raise ValueError(f"model.input_norm belongs to mlp and conv; with {model.kind} use model.input_norm=false")
    if config.init.scheme == "own" and model.kind != "own":
        raise ValueError("init.scheme=own keeps the weights that your own network comes with; use normal or he")
    if model.kind == "own" and config.init.scheme != "own":
        raise ValueError("your own network keeps the weights it comes with: use init.scheme=own")


def check_norm(config: "RunConfig") -> None:
    """Raises ValueError if the norm cannot stand in that network."""
    form, norm, model = form_of(config.data), config.norm, config.model
    if form is None or model.kind == "own":
        return  # known when the network has been built
    if norm not in ("none", "batch") and model.input_norm and form.shape == (1,):
        raise ValueError(
            f"norm={norm} of the one input of `{config.data}` leaves at most its sign, so nothing could be learned; "
            "use model.input_norm=false"
        )
    if norm == "group":
        _check_groups(config, form)
    if norm == "instance" and model.kind == "mlp":
        raise ValueError(
            "norm=instance takes its moments over positions, and a unit of an mlp has only one: "
            "its output would be the bias whatever the input; use model.kind=conv"
        )


def _check_groups(config: "RunConfig", form: Form) -> None:
    model, groups = config.model, config.norm_groups
    inputs = form.size if model.kind == "mlp" else form.shape[0]
    for channels in (
        *norm_channels(model.kind, model.depth, model.width, model.growth),
        *([inputs] if model.input_norm else []),
    ):
        if channels % groups:
            raise ValueError(f"norm_groups must divide the channels; {groups} does not divide {channels}")
        if model.kind == "mlp" and channels == groups:
            raise ValueError(
                f"norm_groups={channels} leaves one of {channels} units in a group: its output would be the bias "
                "whatever the input; use fewer groups"
            )


def check_engine(config: "RunConfig") -> None:
    """Raises ValueError if the reference cannot train this."""
    if config.engine == "torch":
        return
    if config.model.kind not in REFERENCE_KINDS:
        raise ValueError(
            f"engine=reference trains model.kind={' and '.join(REFERENCE_KINDS)}, not {config.model.kind}: "
            "use engine=torch"
        )
    if config.loss or config.metric:
        raise ValueError("engine=reference has no gradient of your own loss: use engine=torch")
    if config.processes > 1:
        raise ValueError("engine=reference runs in one process: use engine=torch under torchrun")
