"""The machine is read from pictures of machines: small trees of the files that a kernel shows."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import InvalidRequest
from cluster.topology import Topology, discover, format_cpulist, parse_cpulist

Tree = Callable[..., Path]


def build(
    root: Path,
    nodes: dict[int, str],
    *,
    online: str | None = None,
    present: str | None = None,
    isolated: str = "",
    nohz_full: str = "",
    siblings: dict[int, str] | None = None,
    memory_mib: int = 2048,
    cgroup: str = "0::/",
    files: dict[str, str | bytes | None] | None = None,
) -> Path:
    """A tree below ``root`` with these cores per node; ``files`` replaces single files, None removes one."""
    cores = sorted({core for text in nodes.values() for core in parse_cpulist(text)})
    running = parse_cpulist(online) if online is not None else cores
    content: dict[str, str | bytes | None] = {
        "sys/devices/system/cpu/online": format_cpulist(running),
        "sys/devices/system/cpu/present": present if present is not None else format_cpulist(cores),
        "sys/devices/system/cpu/isolated": isolated,
        "sys/devices/system/cpu/nohz_full": nohz_full,
        "sys/fs/cgroup/cpuset.cpus.effective": format_cpulist(running),
        "proc/self/cgroup": cgroup,
    }
    for core in running:
        listed = (siblings or {}).get(core, str(core))
        content[f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"] = listed
    for place, (number, text) in enumerate(sorted(nodes.items())):
        folder = f"sys/devices/system/node/node{number}"
        content[f"{folder}/cpulist"] = format_cpulist(set(parse_cpulist(text)) & set(running))
        content[f"{folder}/meminfo"] = f"\nNode {number} MemTotal:       {memory_mib * 1024} kB\n"
        content[f"{folder}/distance"] = " ".join("10" if other == place else "21" for other in range(len(nodes)))
    for place, text in {**content, **(files or {})}.items():
        if text is not None:
            path = root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return lambda nodes, **options: build(tmp_path, nodes, **options)


def pairs(cores: int) -> dict[int, str]:
    """Siblings as most kernels number them: core i and core i + half of them."""
    half = cores // 2
    return {core: f"{core % half},{core % half + half}" for core in range(cores)}


def said(topology: Topology, words: str) -> bool:
    return any(words in note for note in topology.notes)


TWO_NODES = {0: "0-7", 1: "8-15"}


def test_one_node(tree):
    found = discover(tree({0: "0-3"}))
    (node,) = found.nodes
    assert (node.number, node.cores, node.memory_mib, node.distances) == (0, (0, 1, 2, 3), 2048, (10,))
    assert found.resources() == {"numa0": 4.0}
    assert found.allowed == frozenset(range(4))
    assert found.notes == ("one NUMA node: cores can be pinned, memory has no choice",)
    own = found.plan(["a", "b", "c"])
    assert [own[agent].cores for agent in "abc"] == [(1,), (2,), (3,)]
    assert all(place.own for place in own.values())


def test_two_nodes_of_eight_cores_share_the_agents_evenly(tree):
    found = discover(tree(TWO_NODES))
    assert found.resources() == {"numa0": 8.0, "numa1": 8.0}
    assert [node.distances for node in found.nodes] == [(10, 21), (21, 10)]
    assert found.notes == ()
    plan = found.plan([f"agent{i}" for i in range(14)])
    assert sorted(core for place in plan.values() for core in place.cores) == [*range(1, 8), *range(9, 16)]
    assert list(plan) == [f"agent{i}" for i in range(14)]


def test_one_agent_too_many_leaves_a_node_without_owners_and_the_other_as_it_was(tree):
    plan = discover(tree(TWO_NODES)).plan([f"agent{i}" for i in range(15)])
    by_node = {n: [place for place in plan.values() if place.node == n] for n in (0, 1)}
    assert len(by_node[0]) == 8
    assert all(not place.own and place.cores == tuple(range(8)) for place in by_node[0])
    assert by_node[0][0].reason == "8 agents on node 0 and 7 cores to give away, 1 reserved: shares cores 0-7"
    assert all(place.own for place in by_node[1])


def test_agents_follow_the_free_cores_of_unequal_nodes(tree):
    plan = discover(tree({0: "0-12", 1: "13-17"})).plan([str(i) for i in range(8)])
    assert [sum(place.node == n for place in plan.values()) for n in (0, 1)] == [6, 2]


def test_eight_nodes_of_sixteen_hardware_threads(tree):
    layout = {n: f"{8 * n}-{8 * n + 7},{64 + 8 * n}-{64 + 8 * n + 7}" for n in range(8)}
    found = discover(tree(layout, siblings=pairs(128)))
    assert found.resources() == {f"numa{n}": 16.0 for n in range(8)}
    assert found.smt[70] == (6, 70)
    agents = [f"agent{i}" for i in range(56)]
    plan = found.plan(agents)
    assert all(place.own for place in plan.values())
    assert {core for place in plan.values() for core in place.cores} == {c for c in range(64) if c % 8}
    crowded = found.plan([*agents, "one more"])
    assert sum(not place.own for place in crowded.values()) == 8


def test_isolated_cores_are_given_first_then_those_without_ticks(tree):
    found = discover(tree({0: "0-7"}, isolated="3,6", nohz_full="2"))
    plan = found.plan(list("abcd"))
    assert [plan[agent].cores for agent in "abcd"] == [(3,), (6,), (2,), (1,)]
    assert plan["a"].reason == "core 3 to itself, isolated"


def test_isolated_cores_are_not_shared(tree):
    found = discover(tree({0: "0-3"}, isolated="2-3"))
    assert found.plan(list("abcdef"))["a"].cores == (0, 1)
    only = discover(tree({0: "0-3"}, isolated="0-3"))
    assert only.plan(list("abcdef"))["a"].cores == (0, 1, 2, 3)


def test_of_a_half_isolated_pair_the_isolated_thread_is_given(tree):
    found = discover(tree({0: "0-7"}, siblings=pairs(8), isolated="6"))
    assert found.plan(["a"])["a"].cores == (6,)


def test_isolated_cores_outside_the_mask_are_not_used_and_the_remedy_is_said(tree):
    found = discover(tree({0: "0-7"}, isolated="6-7"), allowed=frozenset(range(6)))
    assert found.nodes[0].cores == tuple(range(6))
    assert said(found, "isolated cores 6-7 outside the affinity mask: start under `taskset -c 0-7` to use them")


@pytest.mark.parametrize(("reserved", "owners"), [(0, 4), (1, 3), (3, 1), (4, 0), (9, 0)])
def test_reserved_physical_cores_belong_to_nobody(tree, reserved, owners):
    found = discover(tree({0: "0-7"}, siblings=pairs(8)))
    assert sum(place.own for place in found.plan([str(i) for i in range(owners)], reserved=reserved).values()) == owners
    crowd = found.plan([str(i) for i in range(owners + 1)], reserved=reserved)
    assert {place.cores for place in crowd.values()} == {tuple(range(8))}


def test_offline_cores_are_named_and_not_used(tree):
    found = discover(tree(TWO_NODES, online="0-2,4,6-15"))
    assert found.offline == {3, 5}
    assert "cores 3, 5 are offline" in found.notes
    assert found.nodes[0].cores == (0, 1, 2, 4, 6, 7)


def test_an_offline_core_that_only_its_folder_shows(tree):
    found = discover(
        tree({0: "0-1"}, present="0-1", files={"sys/devices/system/cpu/cpu2/uevent": "", "sys/nothing": None})
    )
    assert found.offline == {2}
    assert "core 2 is offline" in found.notes


def test_the_cgroup_allows_three_cores_over_two_nodes(tree):
    found = discover(tree(TWO_NODES, cgroup="0::/pod/box", files={"sys/fs/cgroup/pod/cpuset.cpus.effective": "6-8"}))
    assert [node.cores for node in found.nodes] == [(6, 7), (8,)]
    assert "cgroup allows 3 of 16 cores" in found.notes
    assert found.resources() == {"numa0": 2.0, "numa1": 1.0}
    plan = found.plan(["a"])
    assert (plan["a"].node, plan["a"].cores) == (0, (7,))


def test_the_nearest_cgroup_counts(tree):
    files = {f"sys/fs/cgroup/{place}cpuset.cpus.effective": cores for place, cores in (("a/", "0-5"), ("a/b/", "1-2"))}
    assert discover(tree(TWO_NODES, cgroup="0::/a/b", files=files)).allowed == {1, 2}
    assert discover(tree(TWO_NODES, cgroup="0::/a/gone (deleted)", files=files)).allowed == set(range(6))


@pytest.mark.parametrize("file", ["cpuset.effective_cpus", "cpuset.cpus"])
@pytest.mark.parametrize("folder", ["docker/box/", "docker/", ""])
def test_a_cgroup_of_version_one(tree, file, folder):
    lines = "9:name=systemd:/\n3:cpuset:/docker/box\n2:cpu,cpuacct:/elsewhere\n0::/"
    found = discover(tree(TWO_NODES, cgroup=lines, files={f"sys/fs/cgroup/cpuset/{folder}{file}": "2,4,9"}))
    assert found.allowed == {2, 4, 9}


def test_effective_cores_of_version_one_count_before_the_configured_ones(tree):
    files = {"sys/fs/cgroup/cpuset/cpuset.effective_cpus": "0-3", "sys/fs/cgroup/cpuset/cpuset.cpus": "0-7"}
    assert discover(tree(TWO_NODES, cgroup="3:cpuset:/", files=files)).allowed == {0, 1, 2, 3}


def test_a_cgroup_path_does_not_lead_out_of_the_tree(tmp_path):
    outside = tmp_path / "sys/fs/cgroup/cpuset.cpus.effective"
    outside.parent.mkdir(parents=True)
    outside.write_text("1")
    root = build(tmp_path / "x/y/z", {0: "0-3"}, cgroup="0::/../../../../../../sys/fs/cgroup")
    assert (root / "sys/fs/cgroup/../../../../../../sys/fs/cgroup/cpuset.cpus.effective").read_text() == "1"
    assert discover(root).allowed == {0, 1, 2, 3}


def test_no_cgroup_at_all(tree):
    files = {"proc/self/cgroup": None, "sys/fs/cgroup/cpuset.cpus.effective": None}
    found = discover(tree(TWO_NODES, files=files))
    assert found.allowed == set(range(16))
    assert said(found, "no cgroup says which cores it allows")


def test_an_affinity_mask_narrower_than_the_cgroup(tree):
    root = tree(TWO_NODES, files={"sys/fs/cgroup/cpuset.cpus.effective": "4-11"})
    found = discover(root, allowed=frozenset({2, 5, 6}))
    assert [node.cores for node in found.nodes] == [(5, 6), ()]
    assert {"cgroup allows 8 of 16 cores", "affinity mask allows 3 of 16 cores"} < set(found.notes)
    assert "node 1 has no core that this process may use" in found.notes
    assert found.resources() == {"numa0": 2.0}
    assert {place.node for place in found.plan(list("abc")).values()} == {0}
    with pytest.raises(InvalidRequest, match="a is to live on node 1: no usable core"):
        found.plan(["a"], node_of={"a": 1})


def test_no_core_in_both_mask_and_cgroup(tree):
    found = discover(tree({0: "0-3"}), allowed=frozenset({9}))
    assert (found.allowed, found.resources()) == (frozenset(), {})
    assert said(found, "no core may be used")
    place = found.plan(["a"])["a"]
    assert (place.cores, place.own) == ((), False)


def test_no_node_directory(tree):
    online = {"sys/devices/system/cpu/online": "0-5", "sys/fs/cgroup/cpuset.cpus.effective": "0-5"}
    found = discover(tree({}, files=online))
    assert [(node.number, node.cores) for node in found.nodes] == [(0, tuple(range(6)))]
    assert "this kernel shows no NUMA nodes: one node assumed" in found.notes


def test_a_node_of_memory_alone_is_known_and_gets_no_agents(tree):
    found = discover(tree({0: "0-3", 1: "4-7", 2: ""}))
    assert found.nodes[2].cores == ()
    assert found.nodes[2].memory_mib == 2048
    assert "node 2 has memory and no cores: no agent is pinned to it" in found.notes
    assert found.resources() == {"numa0": 4.0, "numa1": 4.0}
    assert {place.node for place in found.plan([str(i) for i in range(20)]).values()} == {0, 1}


def test_a_core_without_a_node_goes_to_the_first(tree):
    found = discover(tree({0: "0-1", 1: "2-3"}, files={"sys/devices/system/cpu/online": "0-4"}), allowed=None)
    assert found.allowed == {0, 1, 2, 3}  # the cgroup of this tree does not know core 4
    assert "no node names core 4: taken for node 0" in found.notes
    files = {"sys/devices/system/cpu/online": "0-4", "sys/fs/cgroup/cpuset.cpus.effective": "0-4"}
    assert [node.cores for node in discover(tree({0: "0-1", 1: "2-3"}, files=files)).nodes] == [(0, 1, 4), (2, 3)]


def test_a_core_in_two_nodes_stays_in_the_first(tree):
    found = discover(tree({0: "0-3", 1: "3-5"}))
    assert [node.cores for node in found.nodes] == [(0, 1, 2, 3), (4, 5)]
    assert said(found, "core 3 of node 1 belongs to an earlier node as well")


def test_siblings_in_two_nodes_are_one_physical_core(tree):
    found = discover(tree({0: "0-1", 1: "2-3"}, siblings={0: "0,2", 1: "1", 2: "0,2", 3: "3"}))
    owned = [place.cores for place in found.plan(list("abc"), reserved=0).values() if place.own]
    assert sorted(owned) == [(0,), (1,), (3,)]


def test_contradicting_siblings_are_merged(tree):
    found = discover(tree({0: "0-3"}, siblings={0: "0", 1: "1,0", 2: "2", 3: "3"}))
    assert found.smt == {0: (0, 1), 1: (0, 1), 2: (2,), 3: (3,)}
    chain = discover(tree({0: "0-3"}, siblings={0: "0,1", 1: "1", 2: "1-2", 3: "3"}))
    assert chain.smt == {**dict.fromkeys(range(3), (0, 1, 2)), 3: (3,)}


@pytest.mark.parametrize("garbage", ["", "banana", "3-1", "0-99999999999", b"\xff\xfe\x00\x80", "-1", "0,,1"])
@pytest.mark.parametrize(
    "place",
    [
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/present",
        "sys/devices/system/cpu/isolated",
        "sys/devices/system/cpu/nohz_full",
        "sys/devices/system/cpu/cpu1/topology/thread_siblings_list",
        "sys/devices/system/node/node1/cpulist",
        "sys/devices/system/node/node1/meminfo",
        "sys/devices/system/node/node1/distance",
        "sys/fs/cgroup/cpuset.cpus.effective",
        "proc/self/cgroup",
    ],
)
def test_garbage_costs_a_note_and_nothing_else(tree, place, garbage):
    found = discover(tree(TWO_NODES, files={place: garbage}))
    assert found.allowed == set(range(16))
    may_be_empty = place.endswith(("isolated", "nohz_full", "present"))
    assert bool(found.notes) is not (may_be_empty and garbage == "")
    assert len(found.plan(list("abc"))) == 3


def test_kernels_that_write_null_for_no_core(tree):
    found = discover(tree(TWO_NODES, nohz_full="  (null)"))
    assert (found.nohz_full, found.notes) == (frozenset(), ())


def test_an_empty_root(tmp_path):
    found = discover(tmp_path)
    assert [(node.number, node.cores) for node in found.nodes] == [(0, ())]
    assert found.plan(["a"])["a"].cores == ()
    assert discover(tmp_path, allowed=frozenset({1, 2})).nodes[0].cores == (1, 2)
    assert discover(tmp_path / "missing").allowed == frozenset()


def test_folders_where_files_should_be(tree, tmp_path):
    for place in ("sys/devices/system/cpu/online", "sys/devices/system/node/node0/cpulist", "proc/self/cgroup"):
        (tmp_path / place).mkdir(parents=True)
    assert discover(tmp_path, allowed=frozenset({0})).nodes[0].cores == (0,)


def test_this_machine():
    found = discover()
    assert found.allowed <= os.sched_getaffinity(0)
    assert sum(found.resources().values()) == len(found.allowed) > 0
    assert pickle.loads(pickle.dumps(found)) == found


def test_wishes(tree):
    found = discover(tree(TWO_NODES))
    plan = found.plan(list("abc"), node_of={"a": 1, "b": 1, "somebody else": 77})
    assert {agent: place.node for agent, place in plan.items()} == {"a": 1, "b": 1, "c": 0}
    with pytest.raises(InvalidRequest, match=r"a is to live on node 2: no such number\. Nodes with usable cores"):
        found.plan(["a"], node_of={"a": 2})
    with pytest.raises(InvalidRequest, match="twice"):
        found.plan(["a", "a"])
    with pytest.raises(InvalidRequest, match="reserved is -1"):
        found.plan(["a"], reserved=-1)
    assert found.plan([]) == {}


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("0-3,8,10-11", (0, 1, 2, 3, 8, 10, 11)),
        ("0-15:2/4", (0, 1, 4, 5, 8, 9, 12, 13)),
        ("1-6:1/3", (1, 4)),
        ("0-4:5/5\n", (0, 1, 2, 3, 4)),
        (" 5, 1 ", (1, 5)),
        ("2,1-2", (1, 2)),
        ("\n", ()),
    ],
)
def test_lists_of_cores(text, cores):
    assert parse_cpulist(text) == cores


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-1", "0-3:0/2", "0-3:3/2", "0-3:1/0", "0:1/2", "1,", "65536", "²"])
def test_what_is_no_list_of_cores(text):
    with pytest.raises(ValueError, match="core"):
        parse_cpulist(text)


@given(st.sets(st.integers(0, 300)))
def test_lists_survive_the_round_trip(cores):
    text = format_cpulist(cores)
    assert parse_cpulist(text) == tuple(sorted(cores))
    ends = [[int(end) for end in item.split("-")] for item in text.split(",") if item]
    assert all(right[0] - left[-1] > 1 for left, right in pairwise(ends))  # nothing shorter says the same


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 10), st.integers(1, 10))
def test_strides_take_the_first_of_every_group(first, length, taken, rest):
    group = taken + rest
    listed = parse_cpulist(f"{first}-{first + length}:{taken}/{group}")
    assert listed == tuple(core for core in range(first, first + length + 1) if (core - first) % group < taken)


@st.composite
def machines(draw):
    """Description of a machine of up to 4 nodes, and the mask of a process on it."""
    cores = draw(st.integers(1, 24))
    count = draw(st.integers(1, 4))
    home = draw(st.lists(st.integers(0, count - 1), min_size=cores, max_size=cores))
    some = st.sets(st.integers(0, cores - 1)).map(format_cpulist)
    siblings = draw(st.sampled_from([{}, pairs(cores) if cores % 2 == 0 else {}, {0: "0-2", 1: "1", 2: "2,0"}]))
    options = {
        "isolated": draw(some),
        "nohz_full": draw(some),
        "online": draw(some) or None,
        "siblings": siblings,
        "files": {"sys/fs/cgroup/cpuset.cpus.effective": draw(some)},
    }
    nodes = {n: format_cpulist(core for core in range(cores) if home[core] == n) for n in range(count)}
    return nodes, options, draw(st.none() | st.frozensets(st.integers(0, cores)))


@settings(max_examples=150)
@given(machine=machines(), count=st.integers(0, 30), reserved=st.integers(0, 3), data=st.data())
def test_every_plan(machine, count, reserved, data):
    nodes, options, mask = machine
    with tempfile.TemporaryDirectory() as folder:
        found = discover(build(Path(folder), nodes, **options), allowed=mask)
        again = discover(Path(folder), allowed=mask)
    assert found == again
    assert sorted(core for node in found.nodes for core in node.cores) == sorted(found.allowed)
    assert not found.allowed & found.offline
    if mask is not None:
        assert found.allowed <= mask

    agents = [f"agent{i}" for i in range(count)]
    usable = [node.number for node in found.nodes if node.cores]
    wishes = data.draw(st.dictionaries(st.sampled_from(agents), st.sampled_from(usable))) if agents and usable else {}
    plan = found.plan(agents, reserved=reserved, node_of=wishes)
    assert plan == again.plan(agents, reserved=reserved, node_of=wishes)
    assert list(plan) == agents

    by_number = {node.number: node for node in found.nodes}
    owned = [place.cores[0] for place in plan.values() if place.own]
    for agent, place in plan.items():
        assert place.node == wishes.get(agent, place.node)
        assert set(place.cores) <= set(by_number[place.node].cores)
        assert place.reason
        assert place.cores or not found.allowed
        assert len(place.cores) == 1 if place.own else not set(place.cores) & set(owned)

    for core in owned:
        assert not (set(found.smt[core]) - {core}) & set(owned)
    assert len(set(owned)) == len(owned)
    for node in found.nodes:
        here = [core for core in owned if core in node.cores]
        physical = {found.smt[core] for core in node.cores}
        assert not here or len(physical) - len(here) >= reserved
        if any(core not in found.isolated for core in here):
            whole = {core for core in node.cores if min(set(found.smt[core]) & found.allowed) in node.cores}
            assert all(set(found.smt[core]) & set(here) for core in whole & found.isolated)


@settings(max_examples=100)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), data=st.data())
def test_nobody_shares_while_the_machine_has_a_core_for_everyone(sizes, data):
    edges = [sum(sizes[:n]) for n in range(len(sizes) + 1)]
    nodes = {n: f"{first}-{last - 1}" for n, (first, last) in enumerate(pairwise(edges))}
    with tempfile.TemporaryDirectory() as folder:
        found = discover(build(Path(folder), nodes))
    room = sum(size - 1 for size in sizes)
    count = data.draw(st.integers(0, room))
    plan = found.plan([str(i) for i in range(count)])
    assert all(place.own for place in plan.values())
    if room:
        for n, size in enumerate(sizes):
            assert abs(sum(place.node == n for place in plan.values()) - count * (size - 1) / room) < len(sizes)
