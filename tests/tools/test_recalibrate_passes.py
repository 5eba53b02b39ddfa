"""Batches that differ from pass to pass: what is refused, what is told, and what is right all the same."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from normlab.errors import InvalidInputError
from normlab.tools.recalibrate import recalibrate_

BATCHES = list(torch.randn(12, 2, generator=torch.Generator().manual_seed(0)).split(4))
RULE = "recalibrate_: `batches` must begin anew for each layer.\n"
FIX = '  fix: pass a list, a loader that begins anew, or order="one_pass".'


def deep() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)) for _ in range(3)))


def given(batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    yield from batches


class Stream(IterableDataset[torch.Tensor]):
    """Gives the same generator whenever it is asked."""

    def __init__(self, batches: Iterable[torch.Tensor]) -> None:
        self.generator = given(batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self.generator


class Counted:
    """So many batches in each pass."""

    def __init__(self, *counts: int) -> None:
        self.counts = iter(counts)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(BATCHES[: next(self.counts)])


class Restarting:
    """An iterator that begins anew when it is asked for one, and is the same object all the time."""

    def __iter__(self) -> "Restarting":
        self.left = list(BATCHES)
        return self

    def __next__(self) -> torch.Tensor:
        if not self.left:
            raise StopIteration
        return self.left.pop(0)


def same_generator() -> Callable[[], Iterator[torch.Tensor]]:
    generator = given(BATCHES)
    return lambda: generator


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def said(batches: Any, **settings: Any) -> str:
    model = deep()
    before = values(model)
    with pytest.raises(InvalidInputError) as raised:
        recalibrate_(model, batches, **settings)
    torch.testing.assert_close(values(model), before, rtol=0, atol=0)
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(module.training for module in model.modules())
    return str(raised.value)


AGAIN = ", which goes on with the same generator"


@pytest.mark.parametrize(
    ("make", "settings", "got"),
    [
        (lambda: DataLoader(Stream(BATCHES), batch_size=None), {}, "3 batches in the first pass, 0 in the second"),
        (lambda: Stream(BATCHES), {}, f"3 batches in the first pass, 0 in the second{AGAIN}"),
        (same_generator, {}, f"3 batches in the first pass, 0 in the second{AGAIN}"),
        (same_generator, {"max_batches": 2}, f"2 batches in the first pass, 1 in the second{AGAIN}"),
        (same_generator, {"max_batches": 1}, f"1 batch in the first pass, 1 in the second{AGAIN}"),
        (lambda: Counted(2, 2, 1), {}, "2 batches in the first pass, 1 in pass 3"),
        (lambda: Counted(2, 3), {}, "2 batches in the first pass, 3 in the second"),
    ],
)
def test_batches_that_do_not_begin_anew_are_refused(
    make: Callable[[], Any], settings: dict[str, Any], got: str
) -> None:
    assert said(make(), **settings) == f"{RULE}  got: {got}\n{FIX}"
    report = recalibrate_(deep(), make(), order="one_pass", **settings)
    assert len(report.touched) == 3


def test_an_iterator_that_begins_anew_is_taken() -> None:
    ours, plain = deep(), deep()
    recalibrate_(ours, Restarting)
    restarting = Restarting()
    recalibrate_(plain, BATCHES)
    torch.testing.assert_close(values(ours), values(plain), rtol=0, atol=0)
    ours = deep()
    recalibrate_(ours, lambda: restarting)
    torch.testing.assert_close(values(ours), values(plain), rtol=0, atol=0)


def test_a_loader_with_a_generator_of_its_own() -> None:
    """Another order in each pass is the same data; with `max_batches` it is not, and the title says so."""

    def loader() -> DataLoader[Any]:
        return DataLoader(
            TensorDataset(torch.cat(BATCHES)), 4, shuffle=True, generator=torch.Generator().manual_seed(3)
        )

    ours, plain = deep(), deep()
    report = recalibrate_(ours, loader())
    recalibrate_(plain, BATCHES)
    torch.testing.assert_close(values(ours), values(plain))
    assert report.title() == "3 of 3 norm layers recalibrated from 3 batches"
    others = "3 of 3 norm layers recalibrated from 2 batches, which were others in each pass"
    assert recalibrate_(deep(), loader(), max_batches=2).title() == others
    stream = DataLoader(Stream(BATCHES * 3), batch_size=None)
    assert recalibrate_(deep(), stream, max_batches=2).title() == others


def test_the_last_pass_alone_is_compared_too() -> None:
    """Only the third one brings others."""
    count = iter(range(9))
    report = recalibrate_(deep(), lambda: BATCHES[:2] if next(count) < 2 else BATCHES[1:])
    assert report.title().endswith("which were others in each pass")


def test_a_row_of_the_report_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    model = nn.Sequential(*(nn.Sequential(nn.BatchNorm2d(256), nn.Conv2d(256, 256, 1)) for _ in range(2)))
    report = str(recalibrate_(model, [1 + torch.randn(8, 256, 5, 5) for _ in range(3)]))
    title, _, _, *rows = report.splitlines()
    assert title.strip() == "2 of 2 norm layers recalibrated from 3 batches"
    assert [row.split()[:2] for row in rows if row.strip(" ─")] == [
        ["0.0", "BatchNorm2d(256)"],
        ["1.0", "BatchNorm2d(256)"],
    ]
    assert "channel" not in report


@pytest.mark.parametrize(
    ("data", "change"),
    [
        ([0.0, 1.0, 2.0], "mean moved by 1 deviation, variance × 1, only 3 values a channel"),
        ([2.0, 3.0, 4.0], "mean moved by 3 deviations, variance × 1, only 3 values a channel"),
        ([-1.0, 1.0] * 50, "mean moved by 0 deviations, variance × 1"),
    ],
)
def test_the_words_fit_the_numbers(data: list[float], change: str) -> None:
    norm = nn.BatchNorm1d(1, eps=0.0)
    assert recalibrate_(norm, [torch.tensor(data)[:, None]]).touched[0].change == change


@pytest.mark.parametrize("model", [None, BATCHES])
def test_what_is_no_model(model: Any) -> None:
    with pytest.raises(InvalidInputError) as raised:
        recalibrate_(model, deep())
    assert str(raised.value) == (
        f"recalibrate_: `model` must be a torch.nn.Module.\n  got: {type(model).__name__}\n  fix: pass the model first."
    )
