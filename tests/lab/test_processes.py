"""Two processes that share each batch train as one does."""

import os
import subprocess
import sys

import numpy as np
import pytest

from normlab.lab import Results, compare, load, with_words
from normlab.lab.processes import Processes, connected
from normlab.lab.recipes import RECIPES

# 1,437 samples in batches of 64: the last one has 29, which two processes share as 15 and 14
WORDS = [
    "norm=none,batch,layer", "seeds=1", "epochs=2", "dtype=float64", "model.depth=2", "model.width=16",
    "init.weight_std=0.3", "probe=16",
]  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return compare(with_words(RECIPES["deep-tanh"], WORDS), tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Results]:
    out = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "normlab", "compare", *WORDS, "--out", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (folder,) = out.iterdir()
    return done.stdout, load(folder)


def test_every_run_ends_and_is_recorded_once(together: tuple[str, Results], alone: Results) -> None:
    said, results = together
    assert [run.status.state for run in results.runs] == ["done"] * 3
    assert {run.config.processes for run in results.runs} == {2}
    assert said.count("records  ") == 1
    assert (results.folder / "report.html").exists()
    for run in results.runs:
        assert [line["step"] for line in run.metrics] == [0, 23, 46]
        assert run.status.batch_order == alone.runs[0].status.batch_order
        assert run.status.initial_weights == alone.runs[0].status.initial_weights


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_the_loss_curve_is_that_of_one_process(norm: str, together: tuple[str, Results], alone: Results) -> None:
    """Gradients are averaged over the samples of both, those of the ragged last batch included."""
    curves = [[line["batch_loss"] for line in results.of(norm)[0].metrics[1:]] for results in (together[1], alone)]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-12)


def test_batch_norm_sees_the_samples_of_its_process_alone(together: tuple[str, Results], alone: Results) -> None:
    curves = [[line["batch_loss"] for line in results.of("batch")[0].metrics[1:]] for results in (together[1], alone)]
    assert abs(curves[0][0] / curves[1][0] - 1) > 1e-6
    np.testing.assert_allclose(curves[0], curves[1], rtol=0.5)


def test_one_process_asks_nobody() -> None:
    with connected() as processes:
        assert processes == Processes()
        assert processes.told("a folder") == "a folder"
        assert processes.all(True)
        assert not processes.all(False)
        assert processes.mean(2.5) == 2.5
        processes.wait()
