"""Random networks beside the recursion of 60 digits: 200 here, more by ``make fuzz``."""

from __future__ import annotations

import pytest

from tests.differential.compare import compare
from tests.differential.networks import random_case

NETWORKS, AT_ONCE = 200, 20


@pytest.mark.parametrize("start", range(1, NETWORKS + 1, AT_ONCE))
def test_kernels_are_those_of_the_recursion(start: int) -> None:
    """The bounds of ``compare``; what fails is repeated by its seed."""
    wrong = []
    for seed in range(start, start + AT_ONCE):
        case = random_case(seed)
        wrong += [f"{failure}: {case}" for failure in compare(case)]
    assert not wrong, "\n".join(wrong)
