"""The cap on address space: met inside, gone outside, whatever happens."""

import resource
import subprocess
import sys

import psutil

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


_USED = """
import resource
import numpy as np
from pipeline.sources.memory_cap import MemoryCap

MIB = 2**20
before = resource.getrlimit(resource.RLIMIT_AS)
cap = MemoryCap(200 * MIB)
cap.begin()
with cap.applied():
    small = np.empty(100 * MIB, np.uint8)
try:
    with cap.applied():
        np.empty(150 * MIB, np.uint8)
except MemoryError:
    print("more than the cap")
assert resource.getrlimit(resource.RLIMIT_AS) == before
# What others take between the steps is not counted.
others = np.empty(300 * MIB, np.uint8)
with cap.applied():
    more = np.empty(50 * MIB, np.uint8)
print(len(small) + len(others) + len(more) == 450 * MIB)
"""


def test_more_than_the_cap_is_a_memory_error_and_the_process_is_left_as_it_was():
    # A process of its own: threads that other tests leave give address space back meanwhile.
    ended = subprocess.run([sys.executable, "-c", _USED], capture_output=True, text=True)
    assert ended.stdout.splitlines() == ["more than the cap", "True"], ended.stderr


def test_without_a_cap_nothing_is_set():
    before = resource.getrlimit(resource.RLIMIT_AS)
    cap = MemoryCap(None)
    cap.begin()
    with cap.applied():
        assert resource.getrlimit(resource.RLIMIT_AS) == before
