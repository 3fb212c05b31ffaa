"""The agents that report for one node. Normally, a node has only one agent at a time, which is replaced occasionally.
Sans-I/O.

Each agent gets a new boot id when it starts, and numbers its reports. Late reports from a replaced agent are ignored.
If two agents report alternately, two machines must be using the same node name. In a conflict, the reports from both
agents are accepted, but each agent can mark only its own pulls as ended. The conflict is shown to users.
"""

from dataclasses import dataclass, field

REPLACED_AFTER = 2.5
"""When a new agent appears, the previous agent is considered gone if it has not sent a report for this many seconds.

An agent that has reported more recently may still be running.
"""
GRACE = 5.0
"""How long, in seconds, to keep the pulls of an agent that reported shortly before it was replaced."""
CONFLICT_LASTS = 60.0
"""How long, in seconds, a conflict remains visible after all but one agent have stopped reporting."""
MOST_AGENTS = 5


@dataclass(slots=True)
class _Agent:
    sequence: int
    seen_at: float
    again: int = 0
    """How many reports this agent has sent since another agent replaced it."""
    grace_until: float = 0.0


@dataclass(slots=True)
class Agents:
    """The agents that report for one node, keyed by boot id."""

    current: str = ""
    conflict_until: float = 0.0
    _known: dict[str, _Agent] = field(default_factory=dict)

    def accept(self, boot_id: str, sequence: int, now: float, late_after: float) -> bool:
        """Return whether to accept a report. Duplicates and late reports from a replaced agent are rejected."""
        if not boot_id:  # the Pulltrace v0.1.0 agent
            self.current = ""
            return True
        agent, current = self._known.get(boot_id), self._known.get(self.current)
        if agent and sequence <= agent.sequence:
            return False
        if agent and boot_id != self.current:
            agent.sequence, agent.again = sequence, agent.again + 1
            silent = current is None or now - current.seen_at >= late_after
            if not silent and agent.again < 2:
                return False
            if not silent:
                self.conflict_until = now + CONFLICT_LASTS
        elif agent is None and current and now - current.seen_at <= REPLACED_AFTER:
            current.grace_until = now + GRACE
        self._see(boot_id, sequence, now)
        return True

    def has_conflict(self, now: float) -> bool:
        """Return whether two agents are reporting for this node."""
        return now < self.conflict_until

    def may_report(self, boot_id: str, now: float) -> bool:
        """Return whether an agent that has been replaced may still report its pulls."""
        agent = self._known.get(boot_id)
        return agent is not None and boot_id != self.current and now < agent.grace_until

    def _see(self, boot_id: str, sequence: int, now: float) -> None:
        agent = self._known.get(boot_id)
        if agent is None:
            agent = self._known[boot_id] = _Agent(sequence, now)
        agent.sequence, agent.seen_at = sequence, now
        if self.has_conflict(now):
            agent.grace_until = now + CONFLICT_LASTS
        self.current = boot_id
        if len(self._known) > MOST_AGENTS:
            del self._known[min(self._known, key=lambda known: self._known[known].seen_at)]
