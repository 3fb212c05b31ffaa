"""Resolve host names without delaying the exit of the process.

asyncio resolves names in the threads of its default executor, and waits for these threads when the loop closes. An
unresponsive name server would therefore delay the exit after SIGTERM by half a minute.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ThreadPerLookup(ThreadPoolExecutor):
    """Runs each lookup in its own daemon thread. An exiting process does not wait for daemon threads."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run ``fn`` in a new thread."""
        future: Future[_T] = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001  # the caller handles it
                future.set_exception(error)

        Thread(target=run, daemon=True).start()
        return future
