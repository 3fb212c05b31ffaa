"""A fixed number of slots, and a short queue for them that alternates between client addresses."""

import asyncio
from collections import deque

from pulltrace.server.api.fair_share import FairShare


class BusyError(Exception):
    """No slot became free in time, or the queue is full."""


class FairQueue:
    """At most ``slots`` slots are in use at the same time.

    A slot that becomes free goes to the next address in turn. So many requests from one address do not delay those from
    others.
    """

    def __init__(self, slots: int, waiting: FairShare, patience: float) -> None:
        self._free = slots
        self._share = waiting
        self._patience = patience
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def acquire(self, address: str) -> None:
        """Wait for a slot. Raises ``BusyError``."""
        if self._free:
            self._free -= 1
            return
        if not self._share.take(address):
            raise BusyError("the queue is full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append(turn)
        try:
            async with asyncio.timeout(self._patience):
                await asyncio.shield(turn)
        except BaseException as error:
            self._leave(address, turn)
            if isinstance(error, TimeoutError):
                raise BusyError("no slot became free in time") from None
            raise
        finally:
            self._share.release(address)

    def release(self) -> None:
        """Return a slot. The slot is given to the address whose turn it is."""
        if not self._waiting:
            self._free += 1
            return
        address = next(iter(self._waiting))
        turns = self._waiting.pop(address)
        turns.popleft().set_result(None)
        if turns:
            self._waiting[address] = turns  # move this address to the end of the queue

    def _leave(self, address: str, turn: asyncio.Future[None]) -> None:
        if turn.done():  # the slot was granted at the same moment
            self.release()
            return
        turns = self._waiting[address]
        turns.remove(turn)
        if not turns:
            del self._waiting[address]
