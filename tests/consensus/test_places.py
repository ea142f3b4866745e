"""A committee over several Ray nodes: who lives where, when a voter or a node dies, and when all come up again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

TIMEOUT_S = 150


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-m", "tests.consensus.four_nodes", str(tmp_path_factory.mktemp("nodes"))],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_voter_has_a_node_of_its_own_and_is_restarted_there(told):
    assert told["strategies"] == ["STRICT_SPREAD"]
    assert len(set(told["founded"].values())) == 4
    assert told["back"]
    assert told["restarted"] == told["founded"]


def test_a_node_may_die_and_its_voter_is_replaced_on_another(told):
    assert told["decided without it"] >= 2
    gone = next(name for name, node in told["founded"].items() if node == told["lost"])
    assert told["seats"] == sorted({*told["founded"], "consensus-5"} - {gone})
    kept = {name: node for name, node in told["founded"].items() if name != gone}
    assert told["replaced"] == kept | {"consensus-5": told["replaced"]["consensus-5"]}
    assert told["replaced"]["consensus-5"] in kept.values()


def test_who_comes_up_again_is_where_its_log_is_and_going_down_leaves_no_places(told):
    assert told["up again"] == told["replaced"]
    assert told["strategies with three"] == ["SPREAD"]
    assert told["none left"]
