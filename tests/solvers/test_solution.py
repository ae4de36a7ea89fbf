from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kernreg.solvers import Solution, Stats, Status


def test_every_status_says_something():
    assert all(len(str(status)) > 20 for status in Status)
    assert len({str(status) for status in Status}) == len(Status)


def test_a_failure_says_so_and_advises_what_helps():
    for status in (Status.NOT_CONVERGED, Status.MAX_ITERATIONS):
        assert str(status).startswith("the system was not solved")
        assert "float64" not in str(status).replace("level of a float64", "")
    assert "max_passes" in str(Status.MAX_ITERATIONS)
    assert "max_iter" in str(Status.MAX_ITERATIONS)


def test_stats_is_a_mapping_of_its_fields():
    stats = Stats(seconds=1.5, residuals=(1e-3, 1e-15))
    assert dict(stats) == dataclasses.asdict(stats)
    assert len(stats) == len(dataclasses.fields(stats))
    with pytest.raises(KeyError):
        stats["__len__"]


def test_solution_is_frozen():
    solution = Solution(np.zeros(2), Status.JITTERED, Stats())
    assert not solution.ok
    with pytest.raises(dataclasses.FrozenInstanceError):
        solution.value = np.ones(2)
