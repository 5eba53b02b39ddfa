"""Your own network and data: which norm suits them? This file is both the comparison and what is compared.

Run it: python examples/own_network.py [FOLDER]

The same from the command line:
normlab compare --model examples/own_network.py:make_model --data examples/own_network.py:load norm=batch,group,layer
"""

import sys
from pathlib import Path

import numpy as np
from torch import nn

from normlab import lab
from normlab.lab.prepare import prepare, said_of_swaps
from normlab.lab.recipes.own import own_recipe


def make_model() -> nn.Module:
    """Any network with any norm of PyTorch; a new one at each call."""
    return nn.Sequential(
        nn.Conv1d(2, 16, 5, padding=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Conv1d(16, 32, 5, stride=2),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


def load(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Noisy waves of three frequencies: x_train, y_train, x_test, y_test."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 300)
    angle = (1 + y[:, None]) * np.linspace(0, 2 * np.pi, 32)
    x = np.stack([np.sin(angle), np.cos(angle)], axis=1) + rng.normal(size=(300, 2, 32))
    return x[:200], y[:200], x[200:], y[200:]


def main(out: str) -> None:
    here = Path(__file__).resolve()
    words = [f"data={here}:load", "norm=none,batch,group,layer", "seeds=2", "epochs=3", "optimizer.lr=0.01"]
    recipe, swaps = prepare(lab.with_words(own_recipe(f"{here}:make_model"), words))
    print("\n".join(said_of_swaps(swaps)))
    summary = lab.summarize(lab.compare(recipe, out=out))
    for row in summary.variants:
        print(row.name, row.values)
    print(summary.verdict)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs")
