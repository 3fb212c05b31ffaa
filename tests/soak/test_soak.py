"""A short soak test, which executes all of its code. ``make soak`` runs a long one."""

from tests.soak import faults
from tests.soak.soak import Soak


async def test_every_invariant_holds_after_ten_seconds_of_faults(monkeypatch):
    quick = {faults.network_resets: 1, faults.containerd_garbage: 1, faults.agent_frozen: 1}
    monkeypatch.setattr(faults, "FAULTS", quick)
    result = await Soak(seed=1, seconds=8, nodes=2, speed=3).run()
    assert not result.wrong
    assert result.recovered
    assert result.checks["list and stream"]
    assert result.checks["gauges and list"]
    assert result.counts["of these, completed"]
