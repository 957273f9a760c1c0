"""The campaign's corpus, made once for the tests of its parts."""

from __future__ import annotations

import pytest

from tests.chaos.corpus import Corpus, make_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("chaos"))
