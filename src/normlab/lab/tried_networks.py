"""The networks of a comparison with something of the user's, each built and tried before a run begins."""

from torch import nn

from normlab import errors
from normlab.lab import config
from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.judge import judge_of
from normlab.lab.network import network
from normlab.lab.own_model import settings_of
from normlab.lab.recipe import Recipe, variants
from normlab.lab.said_of_swaps import said_of_swaps
from normlab.lab.tryout import try_out
from normlab.tools.report import Report

# what a network is built by; runs that differ in other settings begin with the same one
BUILT_BY = ("norm", "norm_eps", "norm_momentum", "norm_groups", "model", "init", "dtype")


def tried_networks(recipe: Recipe, data: Dataset) -> dict[str, Report]:
    """Builds and tries each of the networks once; what was swapped, by variant.

    Raises:
        UsageError: the network does not fit the data, the loss or the metric, is not the same twice under one seed, or
            would be the same in a variant as without it.
    """
    judge = judge_of(recipe.base, data)
    built: dict[str, Report | None] = {}
    reports, problems = {}, []
    for variant in variants(recipe):
        key = str([config.setting(variant.config, each) for each in BUILT_BY])
        if key not in built:
            model, built[key] = network(variant.config, data)
            if len(built) == 1:
                _check_repeats(variant.config, model, network(variant.config, data)[0])
            if (report := built[key]) is not None:
                problems += [
                    *_idle(recipe, variant.config.norm, report),
                    *_unreached(recipe, variant.config, model, report),
                ]
            if not problems:
                try_out(variant.config, data, model, judge)
        if (report := built[key]) is not None:
            reports[variant.name] = report
    if problems:
        raise errors.UsageError(errors.message("compare", *dict.fromkeys(problems)))
    return reports


def _check_repeats(chosen: RunConfig, one: nn.Module, other: nn.Module) -> None:
    theirs = other.state_dict()
    if any(not value.equal(theirs[name]) for name, value in one.state_dict().items()):
        problem = errors.Problem(
            "the network must start from the same weights each time it is made under one seed.",
            got="other weights at the second call",
            fix="draw them from the generator of torch, which is seeded before the call.",
        )
        raise errors.UsageError(errors.message(chosen.model.factory, problem))


def _idle(recipe: Recipe, norm: str, report: Report) -> list[errors.Problem]:
    """That a variant would be the network as it is, under the name of a norm that it has not."""
    if report.touched or any(each.same for each in report.skipped):
        return []
    if norm == "none" and len(recipe.axes.get("norm", ())) < 2:
        return []  # nothing is compared with it
    if not report.skipped:
        rule = f"norm={norm}: the network has no norm layer that could be swapped."
        fix = "build it with one, or compare another setting: norm=none optimizer.lr=0.01,0.1."
        return [errors.Problem(rule, fix=fix)] if norm != "none" else []
    count = f"none of the {len(report.skipped)} norm layers" if len(report.skipped) > 1 else "the one norm layer"
    rule = f"norm={norm}: {count} of the network can{'' if len(report.skipped) > 1 else 'not'} be swapped."
    got = "; ".join(said_of_swaps({"": report})[1:]).replace("  ", "")
    groups = "set norm_groups to a smaller divisor of the channels, or " if norm == "group" else ""
    return [errors.Problem(rule, got=got, fix=f"{groups}leave norm={norm} out.")]


def _unreached(recipe: Recipe, chosen: RunConfig, model: nn.Module, report: Report) -> list[errors.Problem]:
    """That a varied setting of norms is not what layers have that stay as the user built them."""
    for each in report.skipped:
        module = model.get_submodule(each.name)
        for key, attribute in settings_of(module).items() if each.same else ():
            wanted, has = config.setting(chosen, key), getattr(module, attribute)
            asked = key in recipe.axes or wanted != config.setting(RunConfig(), key)
            if asked and has != wanted and not isinstance(wanted, str):
                rule = f"{key}={config.plain(wanted)} does not reach {each.name}: {each.layer}, which stays as it is."
                fix = f"build it so, or leave {key}={config.plain(wanted)} out."
                return [errors.Problem(rule, got=f"{attribute}={has}", fix=fix)]
    return []
