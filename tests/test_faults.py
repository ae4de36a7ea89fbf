"""A few of the damaged files that ``python -m tests.faults`` tries by the hundred."""

from __future__ import annotations

import logging

import pytest

from tests.faults import KINDS, MUTATIONS, trials

pytest.importorskip("zarr")


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed_or_does_no_harm(
    kind: str, mutation: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)  # of panels that are factored again
    found = list(trials(KINDS[kind], mutation, 12, seed=2026))
    assert len(found) == 12
    assert not [what for outcome, what in found if outcome.isupper()]
