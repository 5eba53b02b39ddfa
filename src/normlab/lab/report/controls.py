"""What a reader can move: the epoch, the place in a layer, the statistics of batch norm.

The names are the same in every chart, so that the page can keep the charts together.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

SITES = {
    "pre_norm": "before the norm",
    "pre_activation": "before the activation",
    "activation": "after the activation",
}
OWN_SITES = {"pre_norm": "before the norm", "pre_activation": "after the norm"}
MODES = {"train": "of the batch (train mode)", "eval": "running (eval mode)"}


def epoch(epochs: Sequence[int]) -> list[alt.Parameter]:
    """A slider over all epochs, `epoch`, and the nearest epoch that is shown, `at`; it starts at the end."""
    last, step = epochs[-1], epochs[1] - epochs[0] if len(epochs) > 1 else 1
    slider = alt.binding_range(min=0, max=max(last, 1), step=1, name="Epoch")
    nearest = f"epoch > {last} - {step} / 2 ? {last} : {step} * round(epoch / {step})"
    return [alt.param(name="epoch", value=last, bind=slider), alt.param(name="at", expr=nearest)]


def site(own: bool) -> alt.Parameter:
    """A choice of the place that distributions are taken at; in a network of the user's the norms are watched."""
    sites = OWN_SITES if own else SITES
    options = alt.binding_select(options=list(sites), labels=list(sites.values()), name="Values")
    return alt.param(name="site", value="pre_activation", bind=options)


def mode() -> alt.Parameter:
    """A choice of the statistics that batch norm normalizes with."""
    options = alt.binding_select(options=list(MODES), labels=list(MODES.values()), name="Statistics of batch norm")
    return alt.param(name="mode", value="train", bind=options)


def by_site(values: Mapping[str, Any]) -> str:
    """An expression for the entry of the chosen site.

    Example:
        >>> by_site({"activation": 2})
        '({"activation": 2})[site]'
    """
    return f"({json.dumps(values)})[site]"
