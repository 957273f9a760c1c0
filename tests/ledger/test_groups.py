"""Groups of videos cover every video once."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ledger.groups import groups_of


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 100))
def test_groups_cover_every_id_once(counts: list[int], most: int) -> None:
    import pyarrow.dataset as ds

    ids = [f"{number:04x}" for number in range(len(counts))]
    table = pa.table(
        {"video_id": pa.array(ids, pa.string()), "frame_count": pa.array(counts, "i8")}
    )
    bounds = list(groups_of(ds.dataset(table), most))
    assert bounds[0][0] is None
    assert bounds[-1][1] is None
    assert [high for _, high in bounds[:-1]] == [low for low, _ in bounds[1:]]
    for low, high in bounds:
        inside = [i for i in ids if (low is None or i > low) and (high is None or i <= high)]
        frames = sum(counts[ids.index(i)] for i in inside)
        assert frames <= most or sum(counts[ids.index(i)] > 0 for i in inside) <= 1
