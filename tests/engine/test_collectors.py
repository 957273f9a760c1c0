"""Which collector a video falls to."""

from __future__ import annotations

from collections import Counter

from pipeline.engine.collectors import Collectors


def test_a_video_has_one_collector_and_each_has_its_share():
    links = [object(), object(), object()]
    collectors = Collectors(links)  # type: ignore[arg-type]
    names = [f"{number:064x}" for number in range(3000)]
    shares = Counter(id(collectors.of(name)) for name in names)
    assert [id(collectors.of(name)) for name in names] == [id(collectors.of(n)) for n in names]
    assert all(900 < shares[id(link)] < 1100 for link in links)
