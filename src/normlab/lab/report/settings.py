"""Every setting: first those that differ between variants, then all."""

from typing import Any

from normlab.lab import config
from normlab.lab.config import RunConfig
from normlab.lab.load import Results
from normlab.lab.report import html, style


def differing(results: Results) -> str:
    """A row a variant, a column for each setting that is not the same everywhere."""
    keys = [key for key in _keys() if len({config.plain(value) for value in _values(results, key)}) > 1]
    if not keys:
        return "<p>All runs have the same settings, but for the seed.</p>"
    rows = []
    for index, variant in enumerate(results.variants):
        first = results.of(variant)[0]
        chosen = first.config
        name = f'<span class="swatch" style="background:{style.color(index)}"></span>{html.text(variant)}'
        values = [html.text(config.plain(config.setting(chosen, key))) for key in keys]
        rows.append([name, *values, f"{first.model['parameters']:,}" if first.model else "–"])
    head = ["Variant", *[f"<code>{html.text(key)}</code>" for key in keys], "Parameters learned"]
    return html.table(head, rows)


def swapped(results: Results) -> str:
    """Which norms of the user's network were replaced for each norm, and which were kept; empty of other networks."""
    found = {run.config.norm: run.model["swapped"] for run in results.runs if run.model.get("swapped")}
    rows = [
        [html.text(norm), html.text(each["name"]), html.text(each.get("before") or each["layer"]), html.text(after)]
        for norm, report in found.items()
        for each, after in [(one, one["after"]) for one in report["swapped"]]
        + [(one, f"kept: {one['reason']}") for one in report["kept"]]
    ]
    return html.table(["Norm", "Layer", "In your network", "In this comparison"], rows, "swapped") if rows else ""


def everything(results: Results) -> str:
    """Every key with its value, or the values that it takes."""
    seeds = sorted({run.config.seed for run in results.runs})
    rows = []
    for key in _keys():
        values = list(dict.fromkeys(config.plain(value) for value in _values(results, key)))
        shown = html.text(", ".join(values))
        rows.append([f"<code>{html.text(key)}</code>", f"{shown} <small>varies</small>" if len(values) > 1 else shown])
    rows.append(["<code>seed</code>", html.text(", ".join(map(str, seeds)))])
    return html.table(["Setting", "Value"], rows, "settings")


def _keys() -> list[str]:
    return [key for key in config.keys(RunConfig) if key not in ("schema_version", "seed")]


def _values(results: Results, key: str) -> list[Any]:
    return [config.setting(run.config, key) for run in results.runs]
