"""Memory for what kernels return: never in two hands, in the layout asked for, and used again when it is free."""

import gc
import os
import threading
from collections.abc import Iterator

import pytest
import torch
from tests.layers.oracle import random

from normlab.kernels import alloc

LARGE = (4, 64, 40, 40)  # 1.6 MB of float32


@pytest.fixture(autouse=True)
def of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[alloc._Pool]:
    pool = alloc._Pool()
    monkeypatch.setattr(alloc, "_pool", pool)
    yield pool
    pool.empty()


def test_in_the_same_layout() -> None:
    x = torch.empty(LARGE)
    odd = torch.empty(2, *LARGE)[1:2]  # its first stride leads nowhere
    for each in (
        x, odd, x.contiguous(memory_format=torch.channels_last), x.movedim(1, -1).contiguous(), x.bfloat16(),
        x.double(), x.transpose(0, 1), torch.nn.Parameter(x), torch.empty(3), torch.empty(2, 3).t(),
    ):  # fmt: skip
        found = alloc.empty_like(each)
        assert (type(found), found.shape, found.stride(), found.dtype) == (
            torch.Tensor, each.shape, each.stride(), each.dtype,
        )  # fmt: skip
        assert not found.requires_grad
        assert found.data_ptr() % 64 == 0
        found.fill_(1)
    assert alloc.empty(2, 3, dtype=torch.float64).shape == (2, 3)


def test_nothing_is_in_two_hands() -> None:
    """Written by many that come and go, with views that outlive what they are of."""
    alive: list[tuple[torch.Tensor, float]] = []
    for number in range(60):
        y = alloc.empty_like(torch.empty(LARGE)).fill_(number)
        kept = (y, y[1, 2:5], y.detach().view(-1)[7::13], y.numpy(), y.untyped_storage())[number % 5]
        if number % 3 != 2:
            alive.append((torch.empty(0).set_(kept) if number % 5 == 4 else torch.as_tensor(kept), float(number)))
        del y, kept
        if number % 4 == 3:
            del alive[number % len(alive)]
        for each, value in alive:
            assert (each == value).all()


def test_what_is_free_is_used_again(of_its_own: alloc._Pool) -> None:
    y = alloc.empty_like(torch.empty(LARGE))
    place, size = y.data_ptr(), y.untyped_storage().nbytes()
    assert size == y.numel() * 4
    another = alloc.empty_like(y)
    assert another.data_ptr() != place
    del y
    assert of_its_own.bytes >= size
    again = alloc.empty_like(another)
    assert again.data_ptr() == place
    assert of_its_own.bytes == 0


def test_much_larger_memory_is_left_for_what_needs_it(of_its_own: alloc._Pool) -> None:
    large = alloc.empty_like(torch.empty(40 * alloc.PAGE // 4))
    place = large.data_ptr()
    del large
    small = alloc.empty_like(torch.empty(20 * alloc.PAGE // 4))
    assert small.data_ptr() != place
    nearly = alloc.empty_like(torch.empty(39 * alloc.PAGE // 4))
    assert nearly.data_ptr() == place


def test_idle_memory_has_a_limit_and_can_be_given_back(
    of_its_own: alloc._Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes first."""
    monkeypatch.setattr(alloc, "KEPT", 3 * alloc.PAGE)
    each = [alloc.empty_like(torch.empty(LARGE)) for _ in range(5)]
    places = [one.data_ptr() for one in each]
    while each:
        del each[0]
    assert of_its_own.bytes == 3 * alloc.PAGE
    assert {alloc.empty_like(torch.empty(LARGE)).data_ptr()} <= set(places[2:])
    alloc.empty_cache()
    assert (of_its_own.bytes, list(of_its_own.idle)) == (0, [])


def test_small_memory_is_none_of_it(of_its_own: alloc._Pool) -> None:
    del_me = alloc.empty_like(torch.empty(alloc.LEAST // 4 - 1))
    del del_me
    assert of_its_own.bytes == 0


def test_freed_by_a_collection_of_garbage(of_its_own: alloc._Pool) -> None:
    """Which may come at any moment, while memory is asked for among them."""
    before = gc.get_threshold()
    kept = []
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(60):
            ring: list[object] = [alloc.empty_like(torch.empty(LARGE)).fill_(number)]
            ring.append(ring)
            kept.append(alloc.empty_like(torch.empty(LARGE)).fill_(-number))
            if number % 7 == 0:
                gc.collect()
    finally:
        gc.set_threshold(*before)
    assert all((each == -number).all() for number, each in enumerate(kept))
    assert of_its_own.bytes > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_its_own() -> None:
    """What it writes, in memory that was in use or idle before, is not seen here."""
    y, idle = alloc.empty_like(torch.empty(LARGE)).fill_(1), alloc.empty_like(torch.empty(LARGE)).fill_(2)
    place = idle.data_ptr()
    del idle
    child = os.fork()
    if not child:
        y.fill_(3)
        alloc.empty_like(y).fill_(4)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    again = alloc.empty_like(y)
    assert again.data_ptr() == place
    assert (y == 1).all()
    assert (again == 2).all()


def test_freed_and_asked_for_by_several_threads(of_its_own: alloc._Pool) -> None:
    wrong = []

    def work(number: int) -> None:
        for each in range(50):
            y = alloc.empty_like(torch.empty(LARGE)).fill_(number * 1000 + each)
            if not bool((y == number * 1000 + each).all()):
                wrong.append((number, each))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
    assert of_its_own.bytes <= 8 * alloc.PAGE  # one that is made while another is not yet gone


def test_what_may_be_done_with_it() -> None:
    """As with any tensor: gradients, inference mode, sharing, saving, writing in place."""
    x = torch.empty(LARGE)
    y = alloc.empty_like(x).copy_(random(*LARGE))
    leaf = y.clone().requires_grad_()
    (leaf * y).backward(y)
    torch.testing.assert_close(leaf.grad, y * y)
    with torch.inference_mode():
        z = alloc.empty_like(x).fill_(2.0)
    assert float((z + y).sum()) == pytest.approx(float(y.sum()) + 2 * y.numel(), rel=1e-5)
    expected = y.clone()
    assert torch.equal(y.share_memory_(), expected)
    y.add_(1).resize_(3, 5)
    assert torch.equal(y, expected.add_(1).flatten()[:15].view(3, 5))


def test_it_is_no_view_of_anything() -> None:
    """Which could not be written in place where its gradient is wanted."""
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert not alloc.empty_like(torch.empty(LARGE))._is_view()
