"""A comparison from Python: which norm trains a ReLU network at a high learning rate?

Run it: python examples/own_comparison.py [FOLDER]
"""

import sys

from normlab import lab

WORDS = ["norm=none,batch,layer", "model.activation=relu", "model.depth=4", "optimizer.lr=0.5", "epochs=3", "seeds=2"]


def main(out: str) -> None:
    recipe = lab.with_words(lab.recipe_named("deep-tanh"), WORDS)
    results = lab.compare(recipe, out=out)
    summary = lab.summarize(results)
    for row in summary.variants:
        print(row.name, row.values)
    print(summary.verdict)
    print(results.runs[0].metrics[-1]["gradient_norm"])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs")
