"""A process's hold on the routing page: attached when first needed, and anew when the hub comes back."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from cluster import runtime
from cluster.errors import LaneLost, LanesUnavailable, SwarmError, SwarmUnavailable
from hive.messages.fast import Caller
from hive.routing.page import RoutingAddress, RoutingView

ATTACH_S = 5.0
RETRY_S = 0.1


class Router:
    """The newest page for who asks in this process: attached when first needed, and anew when the hub comes back.

    A page outlives its hub. Callers go on with the last one, and find out by themselves who answers no more; meanwhile
    a thread that slept until the hub's process ended asks for the next hub's page.

    Parameters
    ----------
    attach : callable
        (caller, seconds) to the page's address.
    """

    def __init__(self, attach: Callable[[Caller, float], RoutingAddress]) -> None:
        self._attach = attach
        self._lock = threading.Lock()
        self._view: RoutingView | None = None
        self._old: list[RoutingView] = []
        self._elsewhere = False
        self._closed = False
        self._bell = -1
        self._watch: threading.Thread | None = None

    @property
    def attached(self) -> RoutingView | None:
        """The page where it has been attached already."""
        return self._view

    def view(self, patience_s: float = ATTACH_S) -> RoutingView | None:
        """The page; None where this process cannot have it, because the hub lives on another machine.

        Raises
        ------
        SwarmUnavailable
            No hub gave its page in time.
        """
        view = self._view
        if view is not None or self._elsewhere:
            return view
        give_up = time.monotonic() + patience_s
        if not self._lock.acquire(timeout=patience_s):
            raise SwarmUnavailable("the hub's routing page is still being attached", "Allow more time")
        try:
            while self._view is None and not self._elsewhere and not self._closed:
                try:
                    self._take(max(0.001, give_up - time.monotonic()))
                except (SwarmError, runtime.ActorUnreachable) as error:
                    if time.monotonic() + RETRY_S > give_up:
                        raise SwarmUnavailable(
                            f"the hub gives no routing page ({error})", "Run `swarm health`"
                        ) from error
                    time.sleep(RETRY_S)
            return self._view
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the thread and let go of every page. Twice does no harm."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            watch = self._watch
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)
        if watch is not None:
            watch.join()
        if self._bell >= 0:
            os.close(self._bell)
        for view in (*self._old, *([self._view] if self._view is not None else [])):
            view.close()
        self._view, self._elsewhere = None, False

    def _take(self, patience_s: float) -> None:
        """Attach the hub's present page, and see to it that its successor is attached as well."""
        try:
            view = RoutingView(self._attach(Caller.here("park"), patience_s))
        except LaneLost:
            raise
        except LanesUnavailable:
            self._elsewhere = True
            return
        if self._view is not None:
            self._old.append(self._view)  # questions that were counted there are still to be taken off it
            while len(self._old) > 1:
                self._old.pop(0).close()
        self._view = view
        if self._watch is None:
            self._bell = os.eventfd(0, os.EFD_CLOEXEC)
            self._watch = threading.Thread(target=self._follow, name="routing", daemon=True)
            self._watch.start()

    def _follow(self) -> None:
        """Sleep until the hub's process ends, then ask for the next hub's page until there is one."""
        while not self._closed:
            view = self._view
            assert view is not None
            _asleep(None, self._bell, view.hub.fileno())
            while not self._closed and self._view is view:
                try:
                    self._take(ATTACH_S)
                except Exception:  # whatever keeps the next hub from answering, it may pass
                    _asleep(RETRY_S, self._bell)
                if self._elsewhere:  # the next hub lives on another machine, and nobody writes this page any more
                    self._view = None
                    self._old.append(view)
                    return


def _asleep(seconds: float | None, *descriptors: int) -> None:
    """Sleep until one of these can be read from, or the time is up."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll(None if seconds is None else seconds * 1e3)
