"""What an effect is counted in, and how it is written."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """Names of one and of many, and the decimals that an effect is shown with."""

    one: str
    many: str
    decimals: int
    of_percent: bool = False  # differences of a metric that is shown in percent, and of no other

    def amount(self, value: float) -> str:
        """A threshold: as it was chosen, with the unit.

        Example:
            >>> POINTS.amount(1.0), POINTS.amount(-5.0), NUMBER.amount(0.0)
            ('1 point', '−5 points', '0')
        """
        name = self.one if abs(value) == 1 else self.many
        return f"{value:g} {name}".rstrip().replace("-", "−")

    def signed(self, value: float) -> str:
        """An effect, rounded, with its sign and without the unit.

        Example:
            >>> POINTS.signed(2.04), POINTS.signed(-0.01)
            ('+2.0', '+0.0')
        """
        return f"{value:+z.{self.decimals}f}".replace("-", "−")


POINTS = Unit("point", "points", 1, of_percent=True)
EPOCHS = Unit("epoch", "epochs", 1)
DECADES = Unit("decade", "decades", 2)
SCALES = Unit("scale", "scales", 1)
LOG10 = Unit("log10", "log10", 1)
NUMBER = Unit("", "", 3)
