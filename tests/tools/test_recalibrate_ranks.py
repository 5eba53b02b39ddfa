"""Two processes with their own batches end with the statistics of all of them; this file is what each of them runs."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.tolerances import POPULATION
from torch import nn

from normlab.errors import InvalidInputError, NormlabError
from normlab.tools.recalibrate import recalibrate_
from normlab.tools.repair import repair_

METHODS = [(method, order) for method in ("pooled", "average", "ema") for order in ("layers", "one_pass")]
State = dict[str, torch.Tensor]


def network(norm: type[nn.Module] = nn.BatchNorm1d) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), norm(3), nn.ReLU(), nn.Linear(3, 2), norm(2)).double()


def batches_of(rank: int) -> list[torch.Tensor]:
    """Five in one process and three in the other, of other sizes, around another mean."""
    generator = torch.Generator().manual_seed(rank)
    sizes = ([4, 3, 2, 7, 5], [6, 2, 3])[rank]
    return [8 * rank + torch.randn(size, 2, generator=generator, dtype=torch.float64) for size in sizes]


def moved_on() -> nn.Sequential:
    model = network()
    for norm in (model[1], model[4]):
        norm.running_mean += 1
    return model


def after(model: nn.Module, *args: Any, **settings: Any) -> State:
    recalibrate_(model, *args, **settings)
    return model.state_dict()


def raised(wanted: type[Exception], work: Callable[[], Any]) -> str:
    try:
        work()
    except wanted as error:
        return str(error)
    return ""


def work(rank: int) -> dict[str, Any]:
    mine = batches_of(rank)
    broken, spoiled = network(), copy.deepcopy(mine)
    spoiled[-1][0, 0] = torch.nan if rank else 0.0
    poisoned = moved_on()
    if rank:
        poisoned[1].running_var[2] = torch.nan
    report = repair_(poisoned, mine)
    once, emptied = iter(mine), network()
    return {
        **{f"{method} {order}": after(network(), mine, method, order=order) for method, order in METHODS},
        "empty layers": after(network(), mine if rank else []),
        "empty one_pass": after(network(), [] if rank else mine, order="one_pass"),
        "distributed": after(nn.parallel.DistributedDataParallel(network()), [] if rank else mine),
        "synchronized": after(network(nn.SyncBatchNorm), mine, order="one_pass"),
        "alone": after(network(), mine, group="alone"),
        "nothing": raised(InvalidInputError, lambda: recalibrate_(network(), [])),
        "failed": raised(NormlabError, lambda: recalibrate_(broken, spoiled)),
        "ran out": raised(NormlabError, lambda: recalibrate_(emptied, (lambda: once) if rank else mine)),
        "after it ran out": emptied.state_dict(),
        "failed in repair_": raised(NormlabError, lambda: repair_(network(), spoiled)),
        "after the failure": broken.state_dict(),
        "repaired": poisoned.state_dict(),
        "said": [each.change for each in report.touched],
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, "-m", "tests.tools.test_recalibrate_ranks", str(out)],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=root, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [torch.load(out / str(rank), weights_only=True) for rank in (0, 1)]


def same(one: State, other: State) -> None:
    one = {name.removeprefix("module."): value for name, value in one.items()}
    torch.testing.assert_close(one, other, rtol=POPULATION, atol=POPULATION)


def in_turn() -> list[torch.Tensor]:
    """The batches of both, as one process would take them: the first of each, the second of each, …"""
    zero, one = batches_of(0), batches_of(1)
    return [zero[0], one[0], zero[1], one[1], zero[2], one[2], zero[3], zero[4]]


@pytest.mark.parametrize(("method", "order"), METHODS)
def test_both_have_what_one_process_would_have_had(method: str, order: str, found: list[dict[str, Any]]) -> None:
    alone = after(network(), in_turn(), method, order=order)
    for rank in (0, 1):
        same(found[rank][f"{method} {order}"], alone)
    assert int(alone["1.num_batches_tracked"]) == 8


@pytest.mark.parametrize(("what", "rank"), [("empty layers", 1), ("empty one_pass", 0)])
def test_one_may_have_no_batch(what: str, rank: int, found: list[dict[str, Any]]) -> None:
    alone = after(network(), batches_of(rank), order=what.split()[1])
    same(found[0][what], alone)
    same(found[1][what], alone)


def test_if_none_has_a_batch_both_say_so(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["nothing"].startswith("recalibrate_: `batches` must hold at least one batch.")


def test_wrapped_and_synchronized_models(found: list[dict[str, Any]]) -> None:
    """The wrapper would broadcast buffers and a synchronized norm its statistics, and wait for the missing batches."""
    for each in found:
        same(each["distributed"], after(network(), batches_of(0)))
        same(each["synchronized"], after(network(), in_turn(), order="one_pass"))


def test_a_process_can_work_by_itself(found: list[dict[str, Any]]) -> None:
    for rank in (0, 1):
        same(found[rank]["alone"], after(network(), batches_of(rank)))


def test_what_fails_in_one_fails_in_both(found: list[dict[str, Any]]) -> None:
    assert found[1]["failed"].startswith("recalibrate_: what enters a layer must be finite.\n  got: 1: BatchNorm1d(3)")
    assert found[0]["failed"].startswith(
        "recalibrate_: every process must get through its batches.\n"
        "  got: process 1: NotFiniteError: recalibrate_: what enters a layer must be finite."
    )
    for each in found:
        same(each["after the failure"], network().state_dict())


def test_batches_that_run_out_in_one_fail_in_both(found: list[dict[str, Any]]) -> None:
    words = (
        "recalibrate_: `batches` must begin anew for each layer.\n"
        "  got: 3 batches in the first pass, 0 in the second, which goes on with the same list_iterator\n"
        '  fix: pass a list, a loader that begins anew, or order="one_pass".'
    )
    assert found[1]["ran out"] == words
    assert found[0]["ran out"] == (
        f"recalibrate_: every process must get through its batches.\n  got: process 1: InvalidInputError: {words}"
    )
    for each in found:
        torch.testing.assert_close(each["after it ran out"], network().state_dict(), rtol=0, atol=0)


def test_the_other_process_names_the_tool_too(found: list[dict[str, Any]]) -> None:
    assert found[0]["failed in repair_"].startswith("repair_: every process must get through its batches.")


def test_what_is_broken_in_one_is_mended_in_both(found: list[dict[str, Any]]) -> None:
    for each in found:
        same(each["repaired"], after(moved_on(), in_turn(), where="1"))
        assert len(each["said"]) == 1
    assert found[0]["said"][0].startswith("wrong in another process: mean moved by up to")
    assert found[1]["said"] == ["1 of 3 channels not finite: statistics set anew, only 32 values a channel"]


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.save(work(dist.get_rank()), Path(sys.argv[1], str(dist.get_rank())))
    dist.destroy_process_group()
