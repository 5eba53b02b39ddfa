import numpy as np
import torch

from normlab.lab.streams import numpy_stream, stream_seed, torch_stream


def test_a_stream_is_the_same_for_ever() -> None:
    """The first 63 bits of sha256("0:init"), as `printf 0:init | sha256sum` gives it: 63e1a981777fb7af…, halved."""
    assert stream_seed(0, "init") == 0x63E1A981777FB7AF // 2


def test_streams_of_other_seeds_and_purposes_are_others() -> None:
    purposes = ["init", "probe", "curve noise", *(f"order {epoch}" for epoch in range(20))]
    found = {stream_seed(seed, purpose) for seed in range(50) for purpose in purposes}
    assert len(found) == 50 * len(purposes)
    assert all(0 <= seed < 2**63 for seed in found)


def test_generators_start_at_the_seed_of_their_stream() -> None:
    seed = stream_seed(3, "order 1")
    by_torch = torch.rand(4, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.rand(4, generator=torch_stream(3, "order 1")), by_torch)
    assert np.array_equal(numpy_stream(3, "order 1").random(4), np.random.default_rng(seed).random(4))
