"""What a swap did: which layers were replaced, and which were kept and why."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Swapped:
    """A layer that was replaced. `lost` names what it had learned and the new one has no place for."""

    name: str
    before: str
    after: str
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """A layer that was left as it was, and why. `same`: it is of the wanted kind already."""

    name: str
    layer: str
    reason: str
    same: bool = False


@dataclass(frozen=True)
class SwapReport:
    """What was replaced and what was kept."""

    to: str
    swapped: tuple[Swapped, ...]
    kept: tuple[Kept, ...]

    def title(self) -> str:
        """The counts.

        Example:
            >>> SwapReport("none", (), (Kept("1", "LocalResponseNorm(2)", "…"),)).title()
            '0 of 1 norm layer swapped to no norm'
        """
        count = len(self.swapped) + len(self.kept)
        layers = f"{count} norm layer{'' if count == 1 else 's'}"
        norm = "no" if self.to == "none" else self.to
        same = sum(each.same for each in self.kept)
        if same and not self.swapped:
            return f"{same} of {layers} {'is' if same == 1 else 'are'} {norm} norm already"
        return f"{len(self.swapped)} of {layers} swapped to {norm} norm" + (f", {same} already so" if same else "")

    def text(self) -> str:
        """The counts, then one line a layer.

        Example:
            >>> print(SwapReport("layer", (Swapped("1", "BatchNorm1d(4)", "LayerNorm(4)"),), ()).text())
            1 of 1 norm layer swapped to layer norm
              1: BatchNorm1d(4) → LayerNorm(4)
        """
        lines = [self.title()]
        for one in self.swapped:
            lost = f"; its trained {' and '.join(one.lost)} found no place there" if one.lost else ""
            lines.append(f"  {one.name}: {one.before} → {one.after}{lost}")
        lines += [f"  {each.name or 'the model'}: {each.layer} kept, {each.reason}" for each in self.kept]
        return "\n".join(lines)
