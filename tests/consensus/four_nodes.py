"""Four Ray nodes on this machine, each with an address of its own, and a committee over them; prints where voters live.

A process of its own, since a process joins one Ray. Its argument is the home.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from cluster import head, runtime
from consensus.committee import CommitteeClient
from consensus.decisions import read_committee
from consensus.settings import ConsensusSettings
from swarm import boot, members
from swarm.settings import Settings

DEADLINE_S = 90.0
STORE_BYTES = 80 * 2**20


def nodes_of(committee: CommitteeClient) -> dict[str, str]:
    """Node of every voter that takes part, by name."""
    return {one["name"]: one["node"] for one in committee.status() if "height" in one and one["voter"] is not None}


def groups(state: str) -> list[str]:
    """How the placement groups that are in a state spread their bundles."""
    return [found["strategy"] for found in placement_group_table().values() if found["state"] == state]


def main(home: Path) -> dict[str, Any]:
    """Found, restart a voter, lose a node, replace its voter, go down."""
    sizes = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**sizes, "include_dashboard": False})
    others = [cluster.add_node(wait=False, node_ip_address=f"127.0.0.{number}", **sizes) for number in (2, 3, 4)]
    cluster.wait_for_nodes()
    settings = Settings(consensus=ConsensusSettings(voters=4, deadline_s=DEADLINE_S))
    runtime.connect(cluster.address, settings.namespace)
    facts: dict[str, Any] = {}
    created: dict[str, Any] = {}
    boot.create_agents(settings, home, boot.roster(settings)[-4:], created)
    boot.found_committee(settings, home, created, time.monotonic() + DEADLINE_S)
    first = read_committee(boot.committee_path(home))
    committee = CommitteeClient(first, settings.namespace, deadline_s=DEADLINE_S)
    head.until(lambda: len(nodes_of(committee)) == 4, DEADLINE_S)
    facts["founded"], facts["strategies"] = nodes_of(committee), groups("CREATED")
    committee.propose("note")

    ray.kill(created["consensus-2"], no_restart=False)
    facts["back"] = head.until(lambda: any(one.get("recalled") for one in committee.status()), DEADLINE_S)
    facts["restarted"] = nodes_of(committee)

    lost = others[0]
    cluster.remove_node(lost)
    facts["lost"] = lost.node_id
    gone = next(name for name, node in facts["founded"].items() if node == lost.node_id)
    facts["decided without it"] = committee.propose("note").height
    _, now = members.replace(committee, home, gone)
    facts["seats"] = now.names
    facts["replaced"] = nodes_of(committee)

    boot.take_down(now.names, settings.namespace)
    boot.create_agents(settings, home, boot.roster(settings, home)[-4:], {})
    head.until(lambda: len(nodes_of(committee)) == 4, DEADLINE_S)
    facts["up again"], facts["strategies with three"] = nodes_of(committee), groups("CREATED")
    committee.propose("note")
    boot.take_down(now.names, settings.namespace)
    runtime.release(boot.VOTERS_PLACES)
    facts["none left"] = head.until(lambda: not groups("CREATED"), DEADLINE_S)
    runtime.disconnect()
    directory = cluster.head_node.get_session_dir_path()
    cluster.shutdown()
    head.remove_session_directory(directory)
    return facts


if __name__ == "__main__":
    os.environ["RAY_AUTH_MODE"] = "disabled"
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
