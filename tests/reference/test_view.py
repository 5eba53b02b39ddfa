import numpy as np
import pytest

from normlab.reference import batch_view, by_set, group_view, instance_view, layer_view
from normlab.reference.view import fold, fold_weight, unfold

SHAPE = (2, 6, 3, 5)
X = np.arange(180.0).reshape(SHAPE)


@pytest.mark.parametrize(
    ("view", "sets", "size", "first"),
    [
        (batch_view(SHAPE, axis=1), (6,), 30, X[:, 0]),
        (batch_view(SHAPE, axis=-1), (5,), 36, X[..., 0]),
        (batch_view(SHAPE, axis=0), (2,), 90, X[0]),
        (layer_view(SHAPE, dims=3), (2,), 90, X[0]),
        (layer_view(SHAPE, dims=1), (2, 6, 3), 5, X[0, 0, 0]),
        (group_view(SHAPE, 3), (2, 3), 30, X[0, :2]),
        (instance_view(SHAPE), (2, 6), 15, X[0, 0]),
    ],
    ids=["batch", "batch, last axis", "batch, first axis", "layer", "layer, one dim", "group", "instance"],
)
def test_what_shares_a_mean(view, sets: tuple[int, ...], size: int, first: np.ndarray) -> None:
    assert view.set_shape == sets
    assert view.set_size == size
    assert sorted(by_set(view, X)[:, 0]) == sorted(first.ravel())
    assert np.array_equal(unfold(view, fold(view, X)), X)


def test_parameters_meet_their_elements() -> None:
    per_channel = np.arange(6.0)
    for view in (batch_view(SHAPE, axis=1), group_view(SHAPE, 3), instance_view(SHAPE)):
        spread = unfold(view, np.broadcast_to(fold_weight(view, per_channel), view.shape))
        assert np.array_equal(spread, np.broadcast_to(per_channel[:, None, None], SHAPE))
    view = layer_view(SHAPE, dims=2)
    spread = unfold(view, np.broadcast_to(fold_weight(view, X[0, 0]), view.shape))
    assert np.array_equal(spread, np.broadcast_to(X[0, 0], SHAPE))
