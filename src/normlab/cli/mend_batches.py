"""The user's batches, which can be gone through again and again."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from normlab import errors
from normlab.lab.own import called, own_function, said_in_its_words

END = object()
WANTED = "return a loader, or a list of batches: tensors, (x, y) pairs or dictionaries."


@dataclass
class Batches:
    """Batches of `FILE.py:FUNCTION`; the function is called anew for each pass if what it returns is used up by one."""

    name: str
    asked_by: str
    kept: Any = None

    def __iter__(self) -> Iterator[Any]:
        """One pass.

        Raises:
            UsageError: there is no batch, or the user's code raises.
        """
        batches = self._again()
        found = False
        while True:
            with said_in_its_words(self.name):
                batch = next(batches, END)
            if batch is END:
                break
            found = True
            yield batch
        if not found:
            problem = errors.Problem("there must be at least one batch.", got="none")
            raise errors.UsageError(errors.message(self.name, problem))

    def _again(self) -> Iterator[Any]:
        found = self.kept
        if found is None:
            own_function(self.name, self.asked_by)
            found = called(self.name)
            # of arrays put together as `normlab compare` takes them, each would be a batch
            if not isinstance(found, Iterable) or isinstance(found, tuple | Mapping | str) or hasattr(found, "shape"):
                got = f"{type(found).__name__}"
                problem = errors.Problem("the function must return batches.", got=got, fix=WANTED)
                raise errors.UsageError(errors.message(self.name, problem))
            self.kept = None if isinstance(found, Iterator) else found
        with said_in_its_words(self.name):
            return iter(found)
