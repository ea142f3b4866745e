"""Settings come from file, environment and command line in that order of strength, and each one is known and used."""

from __future__ import annotations

import ast
import dataclasses
import functools
from pathlib import Path

import pytest

import swarm
from cluster.errors import InvalidSettings
from swarm.settings import Settings, describe, load, swarm_home

PACKAGES = ("swarm", "actors", "consensus", "hive", "cluster")
ROOT = Path(swarm.__file__).parents[1]
EVERY = describe(Settings(), {})
KEYS = {setting.key for setting in EVERY}


def configured(home, text):
    (home / "config.toml").write_text(text)
    return home


def from_file(home, key, text):
    *tables, leaf = key.split(".")
    header = f"[{'.'.join(tables)}]\n" if tables else ""
    return load(home=configured(home, f"{header}{leaf} = {text}\n"), environment={})


def all_from_file(home, texts):
    """Every setting with its whole key, tables after what stands in none."""
    lines = []
    for key in sorted(texts, key=lambda key: ("." in key, key)):
        table, _, leaf = key.rpartition(".")
        if table and f"[{table}]" not in lines:
            lines.append(f"[{table}]")
        lines.append(f"{leaf} = {texts[key]}")
    return load(home=configured(home, "\n".join(lines) + "\n"), environment={})


def from_environment(home, key, text):
    return load(home=home, environment={f"SWARM_{key.upper().replace('.', '__')}": text})


def from_command_line(home, key, text):
    return load(home=home, environment={}, overrides=[f"{key}={text}"])


SOURCES = {"config.toml": from_file, "environment": from_environment, "command line": from_command_line}
ALL_AT_ONCE = {
    "config.toml": all_from_file,
    "environment": lambda home, texts: load(
        home=home, environment={f"SWARM_{key.upper().replace('.', '__')}": text for key, text in texts.items()}
    ),
    "command line": lambda home, texts: load(
        home=home, environment={}, overrides=[f"{key}={text}" for key, text in texts.items()]
    ),
}
every_source = pytest.mark.parametrize("source", SOURCES)


def test_without_any_source_everything_is_at_its_default(tmp_path):
    assert load(home=tmp_path, environment={}) == (Settings(), {})


def test_the_environment_beats_the_file_and_the_command_line_beats_both(tmp_path):
    home = configured(tmp_path, "seed = 1\n[hub]\ndeadline_s = 1.5\nretries = 1\nmax_batch = 11\n")
    environment = {"SWARM_HUB__RETRIES": "2", "SWARM_HUB__MAX_BATCH": "12", "PATH": "/bin", "SWARM_HOME": "/elsewhere"}
    found, origins = load(home=home, environment=environment, overrides=["hub.max_batch=13", "hub.max_batch = 14"])
    assert (found.seed, found.hub.deadline_s, found.hub.retries, found.hub.max_batch) == (1, 1.5, 2, 14)
    assert origins == {
        "seed": str(home / "config.toml"),
        "hub.deadline_s": str(home / "config.toml"),
        "hub.retries": "environment SWARM_HUB__RETRIES",
        "hub.max_batch": "command line",
    }
    rows = {setting.key: setting for setting in describe(found, origins)}
    assert (rows["hub.max_batch"].value, rows["hub.max_batch"].default) == (14, 256)
    assert rows["hub.max_in_flight"].origin == "default"


def test_a_named_file_replaces_the_homes_and_must_exist(tmp_path):
    configured(tmp_path, "seed = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("namespace = 'two'\n")
    found, origins = load(home=tmp_path, environment={}, file=other)
    assert (found.seed, found.namespace, set(origins)) == (0, "two", {"namespace"})
    with pytest.raises(InvalidSettings, match=r"gone\.toml does not exist"):
        load(home=tmp_path, environment={}, file=tmp_path / "gone.toml")


@every_source
@pytest.mark.parametrize(("key", "meant"), [("hub.deadlin_s", "hub.deadline_s"), ("nmespace", "namespace")])
def test_an_unknown_key_is_refused_with_its_origin_and_the_key_that_was_meant(tmp_path, source, key, meant):
    with pytest.raises(InvalidSettings) as refusal:
        SOURCES[source](tmp_path, key, "5")
    assert key in refusal.value.problem
    assert source in refusal.value.problem
    assert refusal.value.remedy == f"Did you mean {meant}?"


@every_source
@pytest.mark.parametrize("key", ["zzzzzzzzz", "hub", "zzz.qqq"])
def test_a_key_like_no_other_or_a_whole_table_is_refused(tmp_path, source, key):
    with pytest.raises(InvalidSettings, match="unknown") as refusal:
        SOURCES[source](tmp_path, key, "5")
    assert refusal.value.remedy


@every_source
@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("hub.max_batch", '"many"'),
        ("hub.max_batch", "1.5"),
        ("hub.max_batch", "0"),
        ("hub.deadline_s", "-1.0"),
        ("hub.deadline_s", "nan"),
        ("hub.deadline_s", "[1.0]"),
        ("ray.port", "65536"),
        ("correlation.ewma_decay", "1.0"),
        ("correlation.ewma_decay", "nan"),
        ("market.max_bad_share", "1.01"),
        ("liquidity.profile_days", "5"),
        ("liquidity.profile_days", '[1, "two"]'),
    ],
)
def test_a_value_of_another_type_or_out_of_range_is_refused_with_key_value_and_origin(tmp_path, source, key, text):
    with pytest.raises(InvalidSettings) as refusal:
        SOURCES[source](tmp_path, key, text)
    assert f"the setting {key} (" in refusal.value.problem
    assert source in refusal.value.problem
    assert refusal.value.remedy


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("hub.restart_window_s", "inf"),
        ("boot_deadline_s", "inf"),
        ("hub.retries", "true"),
        ("hub.latency_decay", "1.5"),
        ("liquidity.profile_days", "[0, -5]"),
        ("stress.market_moves", "[-0.1, nan]"),
        ("stress.market_moves", "[-1.5]"),
    ],
)
def test_a_number_that_nothing_can_calculate_with_is_refused(tmp_path, key, text):
    with pytest.raises(InvalidSettings, match=key):
        from_command_line(tmp_path, key, text)


@every_source
def test_a_list_is_a_tuple_and_a_whole_number_is_a_float_where_one_is_due(tmp_path, source):
    found, _ = SOURCES[source](tmp_path, "liquidity.profile_days", "[1, 3]")
    assert found.liquidity.profile_days == (1, 3)
    found, _ = SOURCES[source](tmp_path, "stress.market_moves", "[-0.5]")
    assert found.stress.market_moves == (-0.5,)
    found, _ = SOURCES[source](tmp_path, "hub.deadline_s", "7")
    assert (found.hub.deadline_s, type(found.hub.deadline_s)) == (7.0, float)


@pytest.mark.parametrize("read", [from_environment, from_command_line])
@pytest.mark.parametrize("text", ["desk", "127.0.0.1:6379", "'quoted'", "", "2024"])
def test_text_needs_no_quotes_outside_the_file(tmp_path, read, text):
    assert read(tmp_path, "namespace", text)[0].namespace == text.strip("'")


@pytest.mark.parametrize("content", [b"seed = ", b"[hub\n", b"seed = 1\nseed = 2\n", b"\xff\xfe", None])
def test_a_file_that_cannot_be_parsed_is_refused_and_named(tmp_path, content):
    path = tmp_path / "config.toml"
    path.write_bytes(content) if content is not None else path.mkdir()
    with pytest.raises(InvalidSettings, match=r"config\.toml does not parse") as refusal:
        load(home=tmp_path, environment={})
    assert refusal.value.remedy


def test_an_override_without_a_value_is_refused(tmp_path):
    with pytest.raises(InvalidSettings, match=r"--set hub\.retries has no value"):
        load(home=tmp_path, environment={}, overrides=["hub.retries"])


def test_the_home_is_where_the_environment_says_else_in_the_users_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("SWARM_HOME", str(tmp_path))
    assert swarm_home() == tmp_path
    monkeypatch.delenv("SWARM_HOME")
    assert swarm_home() == Path.home() / ".riskswarm"


def leaves(cls, prefix=""):
    for item in dataclasses.fields(cls):
        nested = item.default_factory
        if dataclasses.is_dataclass(nested):
            yield from leaves(nested, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def test_every_setting_is_described_with_a_default_and_a_meaning():
    fields = dict(leaves(Settings))
    assert set(fields) == KEYS
    assert all(item.default is not dataclasses.MISSING for item in fields.values())
    assert [setting.key for setting in EVERY if not setting.meaning] == []
    assert all(setting.value == setting.default and setting.origin == "default" for setting in EVERY)


@pytest.mark.parametrize("source", ALL_AT_ONCE)
def test_every_default_is_accepted_when_stated(tmp_path, source):
    texts = {}
    for setting in EVERY:
        text = f'"{setting.value}"' if isinstance(setting.value, str) else str(setting.value)
        texts[setting.key] = text.replace("(", "[").replace(")", "]")
    found, origins = ALL_AT_ONCE[source](tmp_path, texts)
    assert found == Settings() and set(origins) == KEYS


@functools.cache
def settings_read(folders):
    """Names of the attributes that the sources below ``folders`` read from settings or one of their tables."""
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    owners = ("settings", "shell", *(f".{item.name}" for item in dataclasses.fields(Settings)))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).strip("_").endswith(owners)
    }


@pytest.mark.parametrize("table", sorted({key.rpartition(".")[0] for key in KEYS}))
def test_every_setting_is_read_somewhere(table):
    own_room = ROOT / "actors" / "risk" / table
    read = settings_read((own_room,) if table and own_room.is_dir() else PACKAGES)
    assert {key for key in KEYS if key.rpartition(".")[0] == table and key.rpartition(".")[2] not in read} == set()
