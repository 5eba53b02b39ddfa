"""What every layer of ours promises as a stand-in for the one of PyTorch."""

import copy
import inspect
import io
import pickle
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from tests.layers.catalogue import CATALOGUE, Entry, kernels_of_any_size
from tests.tolerances import beside_torch
from torch import nn

every = pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)

# the others compute the same in both
modes = pytest.mark.parametrize(
    ("entry", "training"),
    [pytest.param(each, training, id=f"{each.name}-{'train' if training else 'eval'}")
     for each in CATALOGUE for training in ((True, False) if each.tracks else (True,))],
)  # fmt: skip


BACKENDS = ("stock", "registered", "formula", "fused")
every_backend = pytest.mark.parametrize(
    ("entry", "backend"),
    [pytest.param(each, backend, id=f"{each.name}-{backend}")
     for each in CATALOGUE for backend in BACKENDS if backend != "fused" or each.name.startswith("BatchNorm")],
    indirect=["backend"],
)  # fmt: skip


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to compute a layer, whatever would be picked; our kernels, wherever there is one."""
    if request.param == "fused":
        kernels_of_any_size(monkeypatch)
    else:
        monkeypatch.setattr("normlab.kernels.pick.forced", request.param)
    return str(request.param)


@every
def test_is_the_layer_of_torch(entry: Entry) -> None:
    ours, stock = entry.pair()
    assert isinstance(ours, entry.is_a)
    theirs = inspect.signature(type(stock)).parameters
    mine = inspect.signature(type(ours)).parameters
    assert [(each.name, each.default, each.kind) for each in theirs.values()] == [
        (mine[name].name, mine[name].default, mine[name].kind) for name in theirs
    ]
    assert all(mine[name].kind is inspect.Parameter.VAR_KEYWORD for name in mine.keys() - theirs.keys())
    assert repr(ours) == repr(stock)


@every
def test_state_goes_both_ways(entry: Entry) -> None:
    ours, stock = entry.pair()
    for _ in range(2):
        ours(entry.x())
        stock(entry.x(1))
    assert list(ours.state_dict()) == list(stock.state_dict())
    fresh_ours, fresh_stock = entry.pair()
    fresh_ours.load_state_dict(stock.state_dict())
    fresh_stock.load_state_dict(ours.state_dict())
    for mine, theirs in ((fresh_ours, stock), (fresh_stock, ours)):
        for name, value in theirs.state_dict().items():
            assert torch.equal(mine.state_dict()[name], value)


@every_backend
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mean", [0.0, 1e3], ids=["unit", "large mean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_values_and_gradients(entry: Entry, training: bool, mean: float, dtype: torch.dtype, backend: str) -> None:
    ours, stock = entry.pair(dtype=dtype)
    exact = entry.built(entry.stock).double()
    exact.load_state_dict({name: each.double() for name, each in stock.state_dict().items()})
    for each in (ours, stock, exact):
        each.train(training)
    x = entry.x(dtype=dtype, mean=mean)
    dy = entry.x(1, dtype=dtype)
    found = [_pass(layer, x.to(as_dtype), dy.to(as_dtype))
             for layer, as_dtype in ((ours, dtype), (stock, dtype), (exact, torch.float64))]  # fmt: skip
    for name, truth in found[2].items():
        beside_torch(found[0][name], found[1][name], truth, name, condition=max(1.0, mean))


def _pass(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> dict[str, torch.Tensor]:
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    y.backward(dy)
    found = {"y": y.detach(), "dx": leaf.grad}
    found |= {f"d{name}": each.grad for name, each in layer.named_parameters()}
    return found | {name: value for name, value in layer.state_dict().items() if name.startswith(("run", "num"))}


@every_backend
def test_first_and_second_derivative(entry: Entry, backend: str) -> None:
    layer = entry.built(entry.ours).double()
    names = [name for name, _ in layer.named_parameters()]
    inputs = [entry.x(dtype=torch.float64), *(each.detach() for each in layer.parameters())]

    def f(x: torch.Tensor, *learned: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, learned, strict=True)), (x,))

    leaves = [each.clone().requires_grad_() for each in inputs]
    assert torch.autograd.gradcheck(f, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, leaves, fast_mode=True)


@every
def test_copies_and_pickles(entry: Entry) -> None:
    layer = entry.built(entry.ours)
    layer(entry.x())
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    read = entry.built(entry.ours)
    read.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), read):  # noqa: S301  # our own bytes
        assert type(other) is type(layer)
        assert torch.equal(other(entry.x(1)), copy.deepcopy(layer)(entry.x(1)))


@modes
def test_compiles_whole(entry: Entry, training: bool) -> None:
    layer = entry.built(entry.ours).train(training)
    twin = copy.deepcopy(layer)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for seed in range(2):
        x = entry.x(seed).requires_grad_()
        x_twin = entry.x(seed).requires_grad_()
        y, expected = compiled(x), twin(x_twin)
        y.backward(entry.x(5))
        expected.backward(entry.x(5))
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(x.grad, x_twin.grad)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value)


@modes
def test_exports(entry: Entry, training: bool) -> None:
    layer = entry.built(entry.ours).train(training)
    twin = copy.deepcopy(layer)
    exported = torch.export.export(layer, (entry.x(),)).module()
    torch.testing.assert_close(exported(entry.x(1)), twin(entry.x(1)))


@every
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # of rms norm, in both
def test_under_autocast(entry: Entry) -> None:
    ours, stock = entry.pair()
    x = entry.x(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine, theirs = ours(x), stock(x)
    assert mine.dtype == theirs.dtype
    torch.testing.assert_close(mine, theirs)


@every_backend
def test_memory_formats_and_views(entry: Entry, backend: str) -> None:
    layer = entry.built(entry.ours)
    expected = layer(entry.x())
    spread = torch.stack([entry.x(), entry.x(1)], dim=-1)[..., 0]
    assert not spread.is_contiguous()
    torch.testing.assert_close(layer(spread), expected)
    if len(entry.shape) == 4:
        last = entry.x().to(memory_format=torch.channels_last)
        y = layer(last)
        torch.testing.assert_close(y, expected)


@every_backend
def test_an_empty_batch(entry: Entry, backend: str) -> None:
    """Where PyTorch takes it, so do we; and nothing is committed."""
    ours, stock = entry.pair()
    x = entry.x()[:0]
    try:
        shape = stock(x).shape
    except (ValueError, RuntimeError, IndexError):
        return
    assert ours(x).shape == shape
    assert not any(bool(each.isnan().any()) for each in ours.state_dict().values())


@every_backend
def test_junk_in_is_junk_out_and_no_lie(entry: Entry, backend: str) -> None:
    """NaN and infinity in the input reach the same elements of the output as in PyTorch."""
    ours, stock = entry.pair()
    x = entry.x()
    x.view(-1)[0] = torch.nan
    x.view(-1)[-1] = torch.inf
    assert torch.equal(ours(x).isnan(), stock(x).isnan())


@every
def test_on_the_meta_device_and_back(entry: Entry) -> None:
    layer = entry.built(entry.ours)
    with torch.device("meta"):
        made = entry.ours(*entry.args, **dict(entry.kwargs))
    made = made.to_empty(device="cpu")
    made.load_state_dict(layer.state_dict())
    torch.testing.assert_close(made.eval()(entry.x()), layer.eval()(entry.x()))


class Every(nn.Module):
    """All of the catalogue as one model: exporting costs seconds, whatever is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.ModuleList(entry.built(entry.ours) for entry in CATALOGUE)

    def forward(self, *xs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(layer(x) for layer, x in zip(self.all, xs, strict=True))


def test_onnx(tmp_path: Path) -> None:
    """Exported, and run by another program."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = Every().eval()
    xs = tuple(entry.x() for entry in CATALOGUE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter uses parts of torch that are on their way out
        torch.onnx.export(model, xs, tmp_path / "all.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(tmp_path / "all.onnx"))
    names = [each.name for each in session.get_inputs()]
    ys = session.run(None, {name: x.numpy() for name, x in zip(names, xs, strict=True)})
    for y, expected in zip(ys, model(*xs), strict=True):
        torch.testing.assert_close(torch.from_numpy(y), expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="no C++ compiler here")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # of the compiler itself
def test_compiles_whole_by_inductor() -> None:
    """To machine code; one layer, as the C++ compiler takes seconds."""
    model = CATALOGUE[0].built(CATALOGUE[0].ours)
    twin = copy.deepcopy(model)
    torch.compiler.reset()
    x = CATALOGUE[0].x()
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), twin(x))
    torch.testing.assert_close(model.running_var, twin.running_var)
