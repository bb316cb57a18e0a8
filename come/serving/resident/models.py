"""The models in memory: each is loaded once for all visitors, and the least recently used go when memory is short."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
from cachetools import LRUCache

from come.errors import ComeError
from come.events import Event, OnProgress
from come.measurement.measurement import Measurement
from come.measurement.top_contexts import Context
from come.models import Bundle, describe, load
from come.serving.cancellation import Cancel, stop_if
from come.serving.limits import Limits
from come.serving.whatif.build import Builder
from come.serving.whatif.original import Original
from come.serving.whatif.whatif import WhatIf
from come.source_fingerprint import source_fingerprint

Key = tuple[str, str, str, str]
"""Source, device, dtype, and of which files the source is: a model may be written anew where another one lay."""

LOOK_AGAIN = 0.05  # seconds
CHANNELS = 256  # whose contexts are kept, ten short ones each


@dataclass
class Loaded:
    """A model in memory, with what was found out about it.

    Attributes:
        bundle: the model.
        builder: makes edited models of it.
        originals: by text, the model on that.
        measurements: by how they were taken.
        whatifs: by both, what answers questions.
        contexts: by text and FFN channel, the tokens that excite it most.
        preparing: held while something is found out, so that two visitors who want the same wait for one pass.
        latest: what was last reported of that.
        users: how many requests are at work with it.
    """

    bundle: Bundle
    builder: Builder
    originals: LRUCache[Hashable, Original]
    measurements: LRUCache[Hashable, Measurement]
    whatifs: LRUCache[Hashable, WhatIf]
    contexts: LRUCache[Hashable, list[Context]]
    preparing: threading.Lock = field(default_factory=threading.Lock)
    latest: Event | None = None
    users: int = 0


class Models:
    """The models in memory, within a budget of bytes of their weights."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        free = psutil.virtual_memory().available
        self.budget = limits.model_bytes if limits.model_bytes is not None else free // 2
        self._loaded: OrderedDict[Key, Loaded] = OrderedDict()
        self._dtypes: dict[tuple[str, str], str] = {}
        self._loading = threading.Lock()  # Transformers' own lazy imports are not safe among threads
        self._changing = threading.Lock()

    @contextmanager
    def using(
        self, source: str, device: str, dtype: str, cancelled: Cancel, on_progress: OnProgress = None
    ) -> Iterator[Loaded]:
        """A model, loaded now if it is not there; it stays in memory at least until the end of this.

        Raises:
            ComeError: it is not offered, cannot be loaded, or others leave no memory for it.
            Cancelled: it was, while another model was being loaded.
        """
        self.limits.check_model(source)
        of = source_fingerprint(source)
        if dtype == "auto":
            with held(self._loading, cancelled):
                dtype = self._stored_dtype(source, of)
        key = source, device, dtype, of
        loaded = self._take(key)
        if loaded is None:
            with held(self._loading, cancelled):
                loaded = self._take(key) or self._load(key, on_progress)
        try:
            yield loaded
        finally:
            with self._changing:
                loaded.users -= 1

    def now(self) -> list[dict[str, Any]]:
        """What is in memory, the most recently used last."""
        with self._changing:
            return [
                {"model": source, "device": device, "dtype": dtype, "bytes": loaded.bundle.bytes, "users": loaded.users}
                for (source, device, dtype, _), loaded in self._loaded.items()
            ]

    def _stored_dtype(self, source: str, of: str) -> str:
        if (source, of) not in self._dtypes:
            self._dtypes[source, of] = describe(source).dtype
        return self._dtypes[source, of]

    def _take(self, key: Key) -> Loaded | None:
        with self._changing:
            loaded = self._loaded.get(key)
            if loaded is not None:
                self._loaded.move_to_end(key)
                loaded.users += 1
            return loaded

    def _load(self, key: Key, on_progress: OnProgress) -> Loaded:
        source, device, dtype, of = key
        facts = describe(source)
        self._make_room(facts.bytes_at(facts.layers, dtype), gone=lambda other: other[0] == source and other[3] != of)
        bundle = load(source, device, dtype, on_progress)
        texts = self.limits.texts
        builder = Builder(bundle, self.limits.layer_bytes)
        loaded = Loaded(bundle, builder, LRUCache(texts), LRUCache(texts), LRUCache(texts), LRUCache(CHANNELS), users=1)
        with self._changing:
            self._loaded[key] = loaded
        return loaded

    def _make_room(self, wanted: int, gone: Callable[[Key], bool]) -> None:
        """Let go of models that nobody is at work with: of those whose files are ``gone``, and as many as it takes."""
        with self._changing:
            held_bytes = sum(loaded.bundle.bytes for loaded in self._loaded.values())
            for key in sorted(self._loaded, key=lambda key: not gone(key)):
                if held_bytes + wanted <= self.budget and not gone(key):
                    return
                if self._loaded[key].users == 0:
                    held_bytes -= self._loaded.pop(key).bundle.bytes
                    gc.collect()  # modules refer to each other
            if self._loaded and held_bytes + wanted > self.budget:
                raise ComeError(
                    "The memory for models is taken up by what other visitors are asking about.",
                    "Ask again in a minute.",
                )


@contextmanager
def held(lock: threading.Lock, cancelled: Cancel, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds a lock, giving up the wait for it when that is wanted.

    Args:
        lock: the lock.
        cancelled: asked while waiting.
        waiting: called now and then while waiting.

    Raises:
        Cancelled: it was.
    """
    while not lock.acquire(timeout=LOOK_AGAIN):
        stop_if(cancelled)
        if waiting is not None:
            waiting()
    try:
        yield
    finally:
        lock.release()
