"""The training flag: running statistics that are never updated, the mistake of S1."""

from normlab.lab.claims.claim import Claim
from normlab.lab.claims.population import MOMENTUM, between
from normlab.lab.claims.rule import Rule
from normlab.lab.claims.seeds import in_points
from normlab.lab.claims.unit import POINTS
from normlab.lab.claims.values import FINAL, final_test

UPDATED, NEVER = 0.01, 0.0

CLAIMS = (
    Claim(
        name="training-flag",
        statement="A network whose running statistics are never updated evaluates more than five points worse.",
        source="S1",
        recipe="volumes",
        uses={"norm": ("batch",), MOMENTUM: (UPDATED, NEVER)},
        measured=f"final test accuracy with momentum {UPDATED:g} − with momentum {NEVER:g}, which never moves the "
        f"statistics; {FINAL}",
        unit=POINTS,
        rule=Rule("above", 5.0),
        effect=lambda results: in_points(between(results, UPDATED, NEVER, final_test)),
    ),
)
