"""``swarm alerts``: what must be known of the swarm itself, now, of late, and as it comes."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cluster.errors import DeadlineExceeded, SwarmUnavailable
from hive.messages.alert import SwarmAlerts
from swarm.cli.context import Address, Context, Json, emit, err, out

if TYPE_CHECKING:
    from swarm.client import SwarmClient

PATIENCE_S = 60.0  # how long a hub that does not answer is asked again while alerts are followed


def alerts(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", help="Go on, and print each alert as it is raised.")] = False,
    seconds: Annotated[float | None, typer.Option(min=0, help="With --follow: end after so long.")] = None,
    interval: Annotated[float, typer.Option(min=0.1, help="With --follow: seconds between looks.")] = 1.0,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Alerts about the swarm itself: agents that failed, a committee without a quorum, voters that were proved faulty.

    With --follow and --json, one object a line. Limits of a watched book are the matter of `swarm watch`.
    """
    from swarm.report import alerts as report

    here: Context = context.obj
    with here.client(address) as client:
        if not follow:
            found = client.alerts()
            emit(found, report.alerts(found), as_json=as_json)
            return
        shown: set[tuple[str, int]] = set()
        forgotten = 0
        give_up = math.inf if seconds is None else time.monotonic() + seconds
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                found = _asked(client, give_up)
                for alert in sorted({*found.open, *found.raised}, key=lambda alert: alert.ts_ns):
                    if (alert.dedup_key, alert.ts_ns) in shown:
                        continue
                    if as_json:
                        emit({"alert": alert}, "", as_json=True)
                        sys.stdout.flush()
                    else:
                        out().print(report.line(alert))
                shown = {(alert.dedup_key, alert.ts_ns) for alert in (*found.open, *found.raised)}
                if found.critical_forgotten > forgotten:
                    err().print(Text(f"the hub has forgotten {found.critical_forgotten} critical alerts", style="red"))
                forgotten = found.critical_forgotten
                left_s = give_up - time.monotonic()
                if left_s <= 0:
                    return
                time.sleep(min(interval, left_s))


def _asked(client: SwarmClient, give_up: float) -> SwarmAlerts:
    """What the hub knows; one that is coming back is asked again."""
    patient_until = min(give_up, time.monotonic() + PATIENCE_S)
    while True:
        try:
            return client.alerts()
        except (SwarmUnavailable, DeadlineExceeded):
            if time.monotonic() >= patient_until:
                raise
            time.sleep(1.0)
