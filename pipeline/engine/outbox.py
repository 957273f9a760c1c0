"""Results on their way to the collectors: sent in bundles, since every call has its price.

The first goes at once; what comes within the next moment goes together. Nobody waits for it: a
worker has its next shard before its last has been acknowledged.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from pipeline.engine.collector_link import CollectorLink
from pipeline.engine.collectors import Collectors
from pipeline.engine.lanes import Result

BUNDLE_S = 0.05
MOST = 32
"""Results at a collector and not yet acknowledged, above which no more are drawn."""


@dataclass(eq=False)
class Bundle:
    """Results with a collector."""

    link: CollectorLink
    results: list[Result]


@dataclass
class Outbox:
    """By collector, what is to be sent to it next."""

    collectors: Collectors
    pending: dict[Any, Any]
    """The driver's: reference -> the Bundle that it is the answer to."""
    out: int = 0
    """Results that have not been acknowledged."""
    _waiting: dict[CollectorLink, list[Result]] = field(default_factory=dict)
    _sent_at: dict[CollectorLink, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def is_full(self) -> bool:
        return self.out >= MOST * len(self.collectors.links)

    def put(self, result: Result) -> None:
        link = self.collectors.of(result.stream.work.task.index.video_id)
        self._waiting.setdefault(link, []).append(result)
        self.out += 1

    def send(self) -> float | None:
        """Send what is due. Returns the seconds until more is; None: nothing waits."""
        now = time.monotonic()
        left = []
        for link in [*self._waiting]:
            wait = self._sent_at[link] + BUNDLE_S - now
            if wait > 0:
                left.append(wait)
                continue
            self._sent_at[link] = now
            every = self._waiting.pop(link)
            wanted = [result for result in every if not result.stream.failed]
            self.out -= len(every) - len(wanted)
            if wanted:
                self.dispatch(Bundle(link, wanted))
        return min(left, default=None)

    def dispatch(self, bundle: Bundle) -> None:
        refs = [result.ref for result in bundle.results]
        self.pending[bundle.link.add(refs)] = bundle

    def answered(self, bundle: Bundle) -> None:
        self.out -= len(bundle.results)

    def split(self, bundle: Bundle) -> None:
        """One of these could not be had, so none was taken: each is sent alone, to see which."""
        for result in bundle.results:
            self.dispatch(Bundle(bundle.link, [result]))
