"""The cap on address space: met inside, gone outside, whatever happens."""

import resource

import numpy as np
import psutil
import pytest

from pipeline.config_file import parse_config
from pipeline.sources.memory_cap import MemoryCap, max_memory

MIB = 2**20


def test_what_is_said_and_what_follows():
    def of(**settings: object) -> int | None:
        return max_memory(parse_config(settings, where="t"))

    assert of(decode={"max_memory": "300MiB"}) == 300 * MIB
    assert of(decode={"max_memory": "none"}) is None
    assert of(memory={"limit": "3GiB"}) == 3 * 2**30
    assert of() == psutil.virtual_memory().total // 2


def test_more_than_the_cap_is_a_memory_error_and_the_process_is_left_as_it_was():
    before = resource.getrlimit(resource.RLIMIT_AS)
    cap = MemoryCap(200 * MIB)
    cap.begin()
    with cap.applied():
        small = np.empty(100 * MIB, np.uint8)
    # So much more that it is so too where others give address space back meanwhile.
    with pytest.raises(MemoryError), cap.applied():
        np.empty(2048 * MIB, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    # What others take between the steps is not counted.
    others = np.empty(300 * MIB, np.uint8)
    with cap.applied():
        more = np.empty(50 * MIB, np.uint8)
    assert len(small) + len(others) + len(more) == 450 * MIB


def test_without_a_cap_nothing_is_set():
    before = resource.getrlimit(resource.RLIMIT_AS)
    cap = MemoryCap(None)
    cap.begin()
    with cap.applied():
        assert resource.getrlimit(resource.RLIMIT_AS) == before
