"""A recipe: a question, the settings shared by every run, and the settings that vary."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from normlab import errors
from normlab.lab import config
from normlab.lab.config import Frozen, RunConfig

UNVARIED = (
    "seeds", "seed", "data", "data_seed", "task", "model.factory", "loss", "metric", "goal", "target", "threads",
    "processes", "schema_version",
)  # fmt: skip
TEXTS = ("data", "model.factory", "loss", "metric")  # a comma in them is part of a path


class Recipe(Frozen):
    """A comparison, complete: `recipe.toml` of its folder is this and nothing else."""

    schema_version: Literal[1] = 1
    name: str
    question: str
    source: str
    takes: str = Field("", description="time on two cores")
    quick: tuple[str, ...] = Field((), description="the words that `--quick` stands for")
    seeds: int = Field(5, ge=1, le=1000, description="runs of each variant, from `seed` upwards")
    base: RunConfig
    axes: dict[str, tuple[bool | int | float | str, ...]]

    @model_validator(mode="after")
    def _axes_are_lists_of_different_values(self) -> Self:
        for key, values in self.axes.items():
            if len(set(map(str, values))) != len(values) or not values:
                raise ValueError(f"the values of `{key}` must differ and be at least one")
        return self


@dataclass(frozen=True)
class Variant:
    """One combination of the varied settings."""

    name: str
    settings: dict[str, Any]
    config: RunConfig


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed, and the folder it will write."""

    variant: str
    folder: str
    config: RunConfig


def variants(recipe: Recipe) -> tuple[Variant, ...]:
    """Every combination of the axes, in the order written.

    Raises:
        UsageError: a combination is not a valid config.
    """
    found = []
    for values in itertools.product(*recipe.axes.values()):
        chosen = config.with_settings(recipe.base, dict(zip(recipe.axes, values, strict=True)))
        settings = {key: config.setting(chosen, key) for key in recipe.axes}
        found.append(Variant(variant_name(settings, chosen), settings, chosen))
    return tuple(found)


def variant_name(settings: Mapping[str, Any], chosen: RunConfig) -> str:
    """The norm if that varies, then every other varied setting as key=value."""
    if not settings:
        return chosen.norm
    return ", ".join(str(value) if key == "norm" else f"{key}={config.plain(value)}" for key, value in settings.items())


def planned_runs(recipe: Recipe) -> tuple[PlannedRun, ...]:
    """Each variant with each seed; seeds go round first, so that an interrupted comparison is still paired."""
    first = recipe.base.seed
    runs = []
    for seed in range(first, first + recipe.seeds):
        for variant in variants(recipe):
            chosen = variant.config.model_copy(update={"seed": seed})
            slug = "".join(c if c.isalnum() or c in ".=-" else "-" for c in variant.name.replace(", ", "-"))
            runs.append(PlannedRun(variant.name, f"{slug[:60]}-seed{seed}-{chosen.digest()}", chosen))
    return tuple(runs)


def with_words(recipe: Recipe, words: Sequence[str]) -> Recipe:
    """The recipe with `key=value` words applied; a list of values makes variants.

    Raises:
        UsageError: a word is not `key=value`, a key does not exist, or a value does not fit.

    Example:
        >>> from normlab.lab.recipes import RECIPES
        >>> changed = with_words(RECIPES["deep-tanh"], ["norm=batch,group", "optimizer.lr=0.5"])
        >>> [variant.name for variant in variants(changed)], changed.base.optimizer.lr
        (['batch', 'group'], 0.5)
    """
    known = [key for key in config.keys(RunConfig) if key != "schema_version"] + ["seeds"]
    single: dict[str, str] = {}
    axes: dict[str, Any] = dict(recipe.axes)
    seeds: int | str = recipe.seeds
    problems = []
    for word in words:
        key, equals, text = word.partition("=")
        parts = [text] if key in TEXTS else text.split(",")
        values = [value.strip() for value in parts if value.strip()]
        if not equals or not values:
            problems.append(errors.Problem(f"`{word}` is not of the form key=value.", fix="write norm=none,batch."))
        elif key not in known:
            problems.append(errors.Problem(f"`{key}` is not a key.", fix=config.nearest_key(key, known)))
        elif len(values) > 1 and key in UNVARIED:
            problems.append(errors.Problem(f"`{key}` takes one value.", got=text, fix=_one_value_fix(key)))
        elif key == "seeds":
            seeds = values[0]
        elif len(values) > 1 or key in axes:
            axes[key] = tuple(values)
        else:
            single[key] = values[0]
    if problems:
        raise errors.UsageError(errors.message("compare", *problems))
    return _checked(recipe, single, axes, seeds)


def _one_value_fix(key: str) -> str:
    return "seeds=5 runs five, seed=10 is the first of them." if key in ("seed", "seeds") else "compare twice."


def _checked(recipe: Recipe, single: Mapping[str, Any], axes: dict[str, Any], seeds: int | str) -> Recipe:
    # The base alone need not be valid (norm=group with a width it does not divide), so each variant is checked.
    first = {key: values[0] for key, values in axes.items()}
    base = config.with_settings(recipe.base, {**first, **single})
    typed = {}
    for key, values in axes.items():
        typed[key] = tuple(config.setting(config.with_settings(base, {key: value}), key) for value in values)
    try:
        changed = Recipe.model_validate(
            recipe.model_dump() | {"base": base.model_dump(), "axes": typed, "seeds": seeds}
        )
    except ValidationError as error:
        raise errors.UsageError(errors.message("compare", *config.validation_problems(error))) from None
    variants(changed)
    return changed
