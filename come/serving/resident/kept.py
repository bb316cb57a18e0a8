"""Things kept at hand within a budget of bytes; what was not used for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Keep(Generic[Thing]):
    """Things by key, with what each takes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._things: OrderedDict[Hashable, tuple[Thing, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._things)

    def get(self, key: Hashable) -> Thing | None:
        """What is kept under the key, if it is."""
        found = self._things.get(key)
        if found is None:
            return None
        self._things.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, thing: Thing, size: int = 1) -> Thing:
        """Keep a thing of that size, unless it is larger than the whole budget, and hand it back."""
        if key in self._things:
            self.bytes -= self._things.pop(key)[1]
        if size <= self.budget:
            self._things[key] = thing, size
            self.bytes += size
        while self.bytes > self.budget:
            _, (_, gone) = self._things.popitem(last=False)
            self.bytes -= gone
        return thing
