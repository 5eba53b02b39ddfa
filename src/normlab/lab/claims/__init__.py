"""Claims of the literature, each a pure function from the records of a recipe to a verdict: a literal table."""

from normlab.lab.claims import (
    batch_sizes,
    bias,
    convergence,
    initialization,
    learning_rates,
    population,
    regularization,
    training_flag,
)
from normlab.lab.claims.claim import Claim as Claim
from normlab.lab.claims.judge import Judgement as Judgement
from normlab.lab.claims.judge import judge as judge
from normlab.lab.claims.rule import Rule as Rule

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for module in (
        convergence,
        learning_rates,
        initialization,
        regularization,
        batch_sizes,
        population,
        bias,
        training_flag,
    )
    for claim in module.CLAIMS
}
