"""A claim of the literature, with the rule that it is judged by: all of it written before the data are seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from normlab.lab import config
from normlab.lab.claims.rule import Rule
from normlab.lab.claims.unit import Unit
from normlab.lab.load import Results
from normlab.lab.metric import metric_of
from normlab.lab.recipe import Recipe, variants

Effect = tuple[float | None, ...]
Settings = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Claim:
    """One sentence that records can support or not.

    `effect` gives one number a seed, paired within the seed; None where that seed lacks it. `measured` says in words
    what that number is, and how runs count that never got there. `uses` are the settings that the effect looks at,
    `along` the setting that it looks along, if it is read off a sweep. `to_target` says that it is about reaching the
    target, of which nothing is known if no run does.
    """

    name: str
    statement: str
    source: str
    recipe: str
    uses: Settings
    measured: str
    unit: Unit
    rule: Rule
    effect: Callable[[Results], Effect]
    along: str = ""
    to_target: bool = False

    def rule_text(self) -> str:
        """The whole rule in words."""
        return self.rule.text(self.unit) + ("; undecided too if no run reaches the target" if self.to_target else "")

    def misfit(self, recipe: Recipe) -> str:
        """Why no result of this recipe could decide the claim; empty if one could."""
        chosen = [variant.config for variant in variants(recipe)]
        for key, values in self.uses.items():
            there = [config.setting(each, key) for each in chosen]
            missing = [config.plain(value) for value in values if value not in there]
            if missing:
                return f"it needs runs with {key}={','.join(missing)}"
        for key, values in recipe.axes.items():
            if len(values) > 1 and key not in self.uses and key != self.along:
                return f"it needs one value of {key}, not {len(values)}"
        if self.along and len({config.setting(each, self.along) for each in chosen}) < 2:
            return f"it needs several values of {self.along}"
        metric = metric_of(recipe.base)
        if self.unit.of_percent and not metric.percent:
            return f"it is about percentages, and the metric is {metric.name}"
        return ""
