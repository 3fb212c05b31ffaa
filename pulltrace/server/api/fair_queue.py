"""A fixed number of slots, with a short queue of clients that are waiting for one. The queue alternates between client
addresses.
"""

import asyncio
from collections import deque

from pulltrace.server.api.fair_share import FairShare


class BusyError(Exception):
    """No slot became free in time, or the queue is full."""


class FairQueue:
    """Grants at most ``slots`` slots at a time.

    A free slot goes to the next address in turn. Many requests from one address therefore do not delay requests from
    other addresses.
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
        """Release a slot, which then goes to the next address in turn."""
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
