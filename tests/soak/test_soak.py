"""A short soak test that exercises all of the soak test's code. ``make soak`` runs a long soak test."""

from tests.soak import faults
from tests.soak.soak import Soak


async def test_every_invariant_holds_during_a_short_soak_test(monkeypatch):
    quick = {faults.network_resets: 1, faults.containerd_garbage: 1, faults.agent_frozen: 1}
    monkeypatch.setattr(faults, "FAULTS", quick)
    result = await Soak(seed=1, seconds=8, nodes=2, speed=3).run()
    assert not result.wrong
    assert result.recovered
    assert result.checks["list and stream"]
    assert result.checks["gauges and list"]
    assert result.counts["of these, completed"]
