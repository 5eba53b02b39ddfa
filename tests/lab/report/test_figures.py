"""What the charts are drawn from, and that they are valid charts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from normlab.lab import Results
from normlab.lab.report import charts, write_pngs
from normlab.lab.report.curves import curves
from normlab.lab.report.distributions import distributions
from normlab.lab.report.figures import figures
from normlab.lab.report.matrices import around
from normlab.lab.report.pngs import VEGA_LITE
from normlab.lab.report.pooled import pooled
from normlab.lab.report.rebin import rebin
from normlab.lab.report.strips import SHARE, strips

MakeUp = Callable[..., Results]
ALL = ["scores", "curves", "distributions", "gradients", "activity", "gap"]


def test_every_chart_is_valid_altair(made_up: MakeUp) -> None:
    found = charts(made_up("norm=none,batch", "seeds=2", "epochs=1", "model.depth=1"))
    assert list(found) == ALL
    for chart in found.values():
        chart.to_dict()  # validates against the schema of Vega-Lite


def test_a_regression_has_fitted_curves(regression: Results) -> None:
    found = {figure.name: figure for figure in figures(regression)}
    spec = found["fits"].spec or {}
    assert len(spec["datasets"]["points"]) == 200
    rows = spec["datasets"]["fit1"]
    assert [(row["e"], row["seed"], len(row["p"])) for row in rows] == [(e, s, 200) for s in (0, 1) for e in (0, 1, 2)]
    recorded = regression.of("batch")[0].metrics[2]["prediction"]
    assert rows[2]["p"] == pytest.approx(recorded, rel=1e-3)


def test_pngs_are_pictures_of_the_same_charts(regression: Results, tmp_path: Path) -> None:
    written = write_pngs(regression, tmp_path / "new" / "png")
    assert [path.stem for path in written] == [
        "scores",
        "curves",
        "fits",
        "distributions",
        "gradients",
        "activity",
        "gap",
    ]
    for path in written:
        content = path.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
        assert (width > 500) & (height > 200)
        assert len(content) > 8_000, path


def test_the_curves_are_the_mean_of_the_seeds_and_their_range(finished: Results) -> None:
    spec = curves(finished).spec or {}
    row = next(
        row for row in spec["datasets"]["metric"] if (row["variant"], row["epoch"], row["mode"]) == ("batch", 2, "eval")
    )
    values = [run.metrics[2]["metric"]["test"]["eval"] for run in finished.of("batch")]
    assert row["mean"] == pytest.approx(sum(values) / 2)
    assert (row["low"], row["high"], row["seeds"]) == (min(values), max(values), 2)


def test_only_batch_norm_is_drawn_in_both_modes(finished: Results) -> None:
    spec = curves(finished).spec or {}
    modes = {(row["variant"], row["mode"]) for row in spec["datasets"]["training_loss"]}
    assert modes == {("none", "train"), ("batch", "train"), ("batch", "eval")}


def test_a_diverged_run_is_drawn_to_its_last_finite_value(made_up: MakeUp) -> None:
    results = made_up("norm=none,batch", "seeds=2", "epochs=6", "model.depth=2", states={"none": "diverged"})
    spec = curves(results).spec or {}
    assert [(row["variant"], row["seed"], row["epoch"]) for row in spec["datasets"]["test_loss_ends"]] == [
        ("none", 0, 2),
        ("none", 1, 2),
    ]
    assert {row["epoch"] for row in spec["datasets"]["test_loss"] if row["variant"] == "none"} == {0, 1, 2}


def test_the_strips_hold_the_pooled_counts_of_all_seeds(finished: Results) -> None:
    drawn = strips(finished)
    assert drawn is not None
    place = next(
        place
        for place in pooled(finished.of("batch"))
        if (place.epoch, place.layer, place.site, place.mode) == (2, "1", "pre_norm", "train")
    )
    runs = finished.of("batch")
    counts = runs[0].histograms[place] + runs[1].histograms[place]
    expected = rebin(counts, drawn.ranges["1"]["pre_norm"]).shares
    row = next(row for row in drawn.rows["batch", "1"] if (row["e"], row["s"], row["m"]) == (2, "pre_norm", "train"))
    whole = [0] * 48
    whole[row["o"] : row["o"] + len(row["d"])] = row["d"]
    assert [share / SHARE for share in whole] == pytest.approx(expected, abs=0.5 / SHARE + 1e-12)
    means = [site["mean"] for run in runs for site in run.metrics[2]["sites"] if _is(site, "1", "pre_norm", "train")]
    assert row["a"] == pytest.approx(sum(means) / 2, rel=1e-3)


def _is(site: dict[str, Any], *place: str) -> bool:
    return (site["layer"], site["site"], site["mode"]) == place


def test_a_variant_without_norm_shows_what_enters_the_activation(finished: Results) -> None:
    spec = distributions(finished).spec or {}
    filters = [panel["transform"][0]["filter"] for panel in spec["vconcat"][1]["concat"]]
    assert (
        filters[0] == "datum.m == 'train' && datum.s == (indexof([\"pre_norm\"], site) >= 0 ? 'pre_activation' : site)"
    )
    assert filters[-1] == "datum.m == mode && datum.s == (site)"


def test_a_diverged_run_does_not_stretch_the_axes_and_what_is_not_finite_is_said(made_up: MakeUp) -> None:
    results = made_up("norm=none,batch", "seeds=1", "epochs=4", "model.depth=2", states={"none": "diverged"})
    drawn = strips(results)
    assert drawn is not None
    low, high = drawn.ranges["1"]["pre_activation"]
    assert -6 < low < -2 < 2 < high < 6
    assert drawn.most_outside[0] > 0.5
    assert "none, layer" in drawn.most_outside[1]
    caption = " ".join(distributions(results).caption)
    assert "28 values were not finite" in caption  # 2 layers × 2 places × 7
    assert any("n" in row for row in drawn.rows["none", "1"])


def test_many_layers_and_epochs_are_thinned_and_said(made_up: MakeUp) -> None:
    results = made_up("norm=none", "seeds=1", "epochs=66", "model.depth=12")
    drawn = strips(results)
    assert drawn is not None
    assert list(drawn.layers) == ["1", "2", "4", "5", "7", "8", "9", "11", "12"]
    assert (drawn.epochs[0], drawn.epochs[-1]) == (0, 66)
    caption = " ".join(distributions(results).caption)
    assert "9 of the 12 layers are drawn" in caption
    assert f"{len(drawn.epochs)} of the 67 epochs are drawn" in caption


def test_variants_of_different_depth_keep_their_columns(made_up: MakeUp) -> None:
    results = made_up("norm=batch", "seeds=1", "epochs=2", "model.depth=2,3")
    spec = distributions(results).spec or {}
    heat = spec["vconcat"][1]
    assert heat["columns"] == 3
    marks = [panel.get("mark", {}) for panel in heat["concat"]]
    assert [mark.get("text") for mark in marks] == [None, None, "nothing recorded", None, None, None]


def test_without_batch_norm_the_gap_says_why_it_is_empty(made_up: MakeUp) -> None:
    gap = figures(made_up("norm=none,layer", "seeds=1", "epochs=2", "model.depth=2"))[-1]
    assert (gap.name, gap.spec) == ("gap", None)
    assert gap.caption[0].startswith("Only batch norm keeps running statistics")


def test_nothing_recorded_draws_nothing_and_says_so(made_up: MakeUp) -> None:
    results = made_up("seeds=2", states=dict.fromkeys(("none", "batch", "layer"), "planned"))
    assert charts(results) == {}
    assert all(figure.caption for figure in figures(results))


def test_the_update_ratio_keeps_its_rule_of_thumb_in_the_middle() -> None:
    stops = around(-3.0, -2.9, -2.8)
    assert (stops[0], stops[3], stops[-1]) == (-4.0, -3.0, -2.0)


def test_other_activations_and_a_single_seed_can_be_drawn_too(made_up: MakeUp) -> None:
    results = made_up("seeds=1", "epochs=2", "model.depth=1", "norm=batch", "model.activation=relu,sigmoid")
    for figure in figures(results):
        assert vl_convert.vegalite_to_vega(figure.spec, vl_version=VEGA_LITE)["marks"]
    captions = {figure.name: " ".join(figure.caption) for figure in figures(results)}
    assert "relu: at 0, where no gradient passes; sigmoid: outside" in captions["activity"]
    assert "One seed: no band." in captions["curves"]
