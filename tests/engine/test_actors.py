"""What every process of a run loads before it does anything."""

from __future__ import annotations

import subprocess
import sys


def test_a_worker_imports_neither_the_tables_nor_models():
    program = """
import sys
import pipeline.engine.actors
print([name for name in ("deltalake", "pandas", "torch", "transformers") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr
