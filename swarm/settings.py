"""The settings tree: one TOML file, the environment and the command line, in that order of strength.

``SWARM_HOME/config.toml`` holds tables such as ``[hub]``; an environment variable names the same key as
``SWARM_HUB__DEADLINE_S``; the command line as ``--set hub.deadline_s=5``. A key that does not exist is an error.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import math
import os
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval

from actors.risk.correlation.settings import CorrelationSettings
from actors.risk.liquidity.settings import LiquiditySettings
from actors.risk.portfolio.settings import PortfolioSettings
from actors.risk.stress.settings import StressSettings
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from actors.settings import ShellSettings
from actors.trading.gate.settings import GateSettings
from cluster.errors import InvalidSettings
from cluster.lanes.settings import LaneSettings
from consensus.settings import ConsensusSettings
from hive.hub.settings import HubSettings
from hive.market.settings import MarketSettings

PREFIX = "SWARM_"
NOT_SETTINGS = {"SWARM_HOME"}
DEFAULT_HOME = "~/.riskswarm"
GATE_DIRECTORY = "gate"  # of the home: the gate's journal and kill switch


@dataclass(frozen=True)
class RaySettings:
    """The Ray that `swarm up` starts; it picks all its ports but these two itself."""

    address: str = ""
    """Ray to join, ``host:port``; empty starts one."""
    port: Annotated[int, Interval(ge=1, le=65535)] = 6379
    """Port of the Ray that is started."""
    dashboard_port: Annotated[int, Interval(ge=1, le=65535)] = 8265
    """Port of its dashboard, on loopback."""
    cpus: Annotated[int, Ge(0)] = 0
    """Cores that Ray may count; 0 lets it count those it finds."""
    start_deadline_s: Annotated[float, Gt(0)] = 60.0
    """How long Ray may take to listen, seconds."""


@dataclass(frozen=True)
class Settings:
    """Everything that can be set."""

    namespace: str = "riskswarm"
    """Ray namespace of the roster; two swarms on one Ray need two."""
    boot_deadline_s: Annotated[float, Gt(0)] = 90.0
    """How long the roster may take to become HEALTHY, seconds."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the hub's balancing; calculations bring their own."""
    ray: RaySettings = field(default_factory=RaySettings)
    market: MarketSettings = field(default_factory=MarketSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    agents: ShellSettings = field(default_factory=ShellSettings)
    lanes: LaneSettings = field(default_factory=LaneSettings)
    consensus: ConsensusSettings = field(default_factory=ConsensusSettings)
    value_at_risk: ValueAtRiskSettings = field(default_factory=ValueAtRiskSettings)
    stress: StressSettings = field(default_factory=StressSettings)
    correlation: CorrelationSettings = field(default_factory=CorrelationSettings)
    liquidity: LiquiditySettings = field(default_factory=LiquiditySettings)
    portfolio: PortfolioSettings = field(default_factory=PortfolioSettings)
    gate: GateSettings = field(default_factory=GateSettings)


@dataclass(frozen=True)
class Setting:
    """One key as `swarm config show` prints it."""

    key: str
    value: Any
    default: Any
    origin: str
    meaning: str


def swarm_home() -> Path:
    """The directory of this swarm's session, snapshots and artefacts: ``SWARM_HOME``, else ``~/.riskswarm``."""
    return Path(os.environ.get("SWARM_HOME") or DEFAULT_HOME).expanduser().absolute()


def load(
    *,
    home: Path,
    environment: Mapping[str, str] = os.environ,
    overrides: Sequence[str] = (),
    file: Path | None = None,
) -> tuple[Settings, dict[str, str]]:
    """Settings and the origin of every key that is not at its default.

    Parameters
    ----------
    overrides : sequence of str
        ``key=value`` texts of the command line.
    file : Path, optional
        TOML file instead of ``home/config.toml``; it must then exist.

    Raises
    ------
    InvalidSettings
        A key is unknown, a value out of range, or the file does not parse.
    """
    known = {setting.key: setting.default for setting in describe(Settings(), {})}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    sources = (
        _from_file(file or home / "config.toml", must_exist=file is not None),
        _from_environment(environment),
        _from_command_line(overrides),
    )
    for source in sources:
        for key, (value, origin) in source.items():
            if key not in known:
                close = difflib.get_close_matches(key, list(known), n=1)
                raise InvalidSettings(
                    f"the setting {key} ({origin}) is unknown",
                    f"Did you mean {close[0]}?" if close else "See `swarm config show` for those that exist",
                )
            values[key], origins[key] = _read(value, key, origin, known[key]), origin
    return _validated(values, origins), origins


def describe(settings: Settings, origins: Mapping[str, str]) -> list[Setting]:
    """Every key with its value, default, origin and meaning."""
    return [
        Setting(key, value, default, origins.get(key, "default"), meaning)
        for key, value, default, meaning in _walk(settings, Settings(), "")
    ]


def _walk(settings: Any, defaults: Any, prefix: str) -> list[tuple[str, Any, Any, str]]:
    rows = []
    meanings = _attribute_docstrings(type(settings))
    for item in dataclasses.fields(settings):
        value, default = getattr(settings, item.name), getattr(defaults, item.name)
        if dataclasses.is_dataclass(value):
            rows += _walk(value, default, f"{prefix}{item.name}.")
        else:
            rows.append((prefix + item.name, value, default, meanings.get(item.name, "")))
    return rows


def _from_file(path: Path, *, must_exist: bool) -> dict[str, tuple[Any, str]]:
    try:
        tree = tomllib.loads(path.read_text())
    except FileNotFoundError:
        if must_exist:
            raise InvalidSettings(f"the settings file {path} does not exist", "Check the path") from None
        return {}
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"the settings file {path} does not parse ({error})", "Correct it") from error
    return {key: (value, str(path)) for key, value in _flat(tree, "").items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    return {
        name[len(PREFIX) :].lower().replace("__", "."): (_Text(text), f"environment {name}")
        for name, text in environment.items()
        if name.startswith(PREFIX) and name not in NOT_SETTINGS
    }


def _from_command_line(overrides: Sequence[str]) -> dict[str, tuple[Any, str]]:
    found = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidSettings(f"--set {text} has no value", "Write it as --set key=value")
        found[key.strip()] = (_Text(value.strip()), "command line")
    return found


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


class _Text(str):
    """A value as the environment or the command line gives it: text, whatever it means."""

    __slots__ = ()


def _read(value: Any, key: str, origin: str, default: Any) -> Any:
    """A source's value for ``key``: text is read in TOML's notation unless the setting is itself a text."""
    if isinstance(value, _Text):
        meant = _toml(str(value))
        value = str(value) if isinstance(default, str) and not isinstance(meant, str) else meant
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, bool) or (isinstance(part, float) and not math.isfinite(part)) for part in parts):
        raise InvalidSettings(f"the setting {key} ({origin}) is {value!r}", "Give finite numbers")
    return value


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text


def _validated(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    from pydantic import TypeAdapter, ValidationError

    tree: dict[str, Any] = {}
    for key, value in values.items():
        *tables, leaf = key.split(".")
        place = tree
        for table in tables:
            place = place.setdefault(table, {})
        place[leaf] = value
    try:
        return TypeAdapter(Settings).validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
        raise InvalidSettings(
            f"the setting {key} ({origins.get(key, 'unknown origin')}) is {first['input']!r}: {first['msg']}",
            "See `swarm config show` for its meaning and default",
        ) from error


def _attribute_docstrings(cls: type) -> dict[str, str]:
    """The string that stands under each attribute in the source of ``cls``."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for attribute, text in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(attribute, ast.AnnAssign)
            and isinstance(attribute.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[attribute.target.id] = inspect.cleandoc(str(text.value.value))
    return found
