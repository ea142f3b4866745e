"""What every command shares: global options, consoles, progress, and how errors end the process."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from cluster.errors import InvalidRequest
from hive.market.validation import Kind
from hive.messages.codec import plain
from hive.messages.health import SwarmHealth
from swarm.settings import Settings, load

if TYPE_CHECKING:
    from swarm.client import SwarmClient

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Address = Annotated[str | None, typer.Option(help="Ray address of the swarm, instead of the one recorded here.")]


@dataclass
class Context:
    """Global options of one invocation; settings are read when first needed."""

    home: Path
    file: Path | None
    overrides: tuple[str, ...]

    @cached_property
    def loaded(self) -> tuple[Settings, dict[str, str]]:
        """Settings and the origins of those that are set."""
        return load(home=self.home, file=self.file, overrides=self.overrides)

    @property
    def settings(self) -> Settings:
        """The settings of this invocation."""
        return self.loaded[0]

    def client(self, address: str | None) -> SwarmClient:
        """A client of the swarm at ``address``, else of the one recorded here."""
        from swarm.client import SwarmClient

        return SwarmClient(address or self.settings.ray.address or None, home=self.home, settings=self.settings)


def out() -> Console:
    """Where answers go. A pipe has no width: tables are then as wide as they need."""
    return Console(width=None if sys.stdout.isatty() else 180, soft_wrap=False)


def err() -> Console:
    """Where progress and errors go."""
    return Console(stderr=True)


def emit(value: Any, shown: RenderableType, *, as_json: bool) -> None:
    """Print an answer, for a program or for a person."""
    if as_json:
        sys.stdout.write(json.dumps(plain(value), allow_nan=False) + "\n")
    else:
        out().print(shown)


def parse_kind(text: str) -> Kind:
    """``prices`` or ``returns``."""
    if text in ("prices", "returns"):
        return cast(Kind, text)
    raise InvalidRequest(f"--kind {text} is unknown", "Give prices or returns")


class BootProgress:
    """Shows what a boot waits for, agent by agent."""

    def __init__(self, live: Live | None) -> None:
        self._live = live

    def __call__(self, text: str, health: SwarmHealth | None) -> None:
        """Show what is being waited for."""
        if self._live is None:
            return
        from swarm.report.swarm import agent_states

        spinner = Spinner("dots", Text(text))
        self._live.update(Group(spinner, agent_states(health.agents)) if health is not None else spinner)


@contextlib.contextmanager
def boot_progress() -> Iterator[BootProgress]:
    """Progress on the error stream where a person watches it; silence elsewhere."""
    console = err()
    if not console.is_terminal:
        yield BootProgress(None)
        return
    with Live(console=console, transient=True, refresh_per_second=10) as live:
        yield BootProgress(live)
