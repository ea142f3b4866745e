"""The Ray runtime: join a Ray, embed one, create and find actors, wait for answers.

Ray's own ports listen on every interface, whatever address a node is given, so a Ray started here always asks for
Ray's token. The rest of the house reaches Ray through the functions below, nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    ActorAlreadyExistsError,
    GetTimeoutError,
    ObjectLostError,
    PendingCallsLimitExceeded,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.util.placement_group import get_placement_group, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from cluster import head
from cluster.errors import DeadlineExceeded, SessionConflict, SwarmError, SwarmUnavailable

F = TypeVar("F", bound=Callable[..., Any])

PLACE = {"memory": 1.0}  # a place must ask for something: a byte is missed by nobody, a share of a core would be
ON_THIS = 0.001  # of what Ray gives every node under its address: room for a thousand
PLACES_S = 30.0
PROBE_S = 3.0  # how long a server may take to greet
HTTP2_SETTINGS = b"\x04"  # type of the frame that both sides of HTTP/2 begin with (RFC 9113, 6.5)
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + HTTP2_SETTINGS + b"\0" * 5

_unprinting = threading.Lock()
_joined: list[str] = []
"""Address of the Ray this process has joined, once for each join; empty text stands for the embedded one."""
_embedded: list[str] = []
"""Session directory of the Ray that :func:`embed` started in this process; empty while there is none."""

ActorUnreachable = RayActorError
"""What a call raises when the actor's process is dead or restarting."""
QueueFull = PendingCallsLimitExceeded
"""What a call raises when the caller has too many of them waiting at that actor."""
ObjectLost = ObjectLostError
"""What reading a shared value raises when its owner died."""


def connect(address: str, namespace: str) -> str:
    """Join this process to the Ray at ``address`` as a driver. Joins are counted: each needs its :func:`disconnect`.

    Returns
    -------
    str
        Address of Ray's dashboard; empty where it has none or this process had joined before.

    Raises
    ------
    SwarmUnavailable
        Nothing that speaks Ray answers there.
    SessionConflict
        This process is joined to another Ray.
    """
    if ray.is_initialized():
        if not _joined:
            return ""  # somebody else joined this process to its Ray, and will leave it
        if _joined[0] != address:
            raise SessionConflict(
                f"this process is joined to {_joined[0] or 'its embedded Ray'} and cannot join {address} as well",
                "Close that client first, or use another process",
            )
        _joined.append(address)
        return ""
    _quiet_ray()
    host, _, port = address.rpartition(":")
    if not address.startswith("ray://") and not (port.isdigit() and _speaks_http2(host or head.LOOPBACK, int(port))):
        raise SwarmUnavailable(f"no Ray answers at {address}", "Start a swarm with `swarm up`, or name its --address")
    use_token(create=False)
    with _uninterrupted(), _unprinted():
        try:
            context = ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
        except (RayError, RuntimeError, ConnectionError, ValueError, OSError) as error:
            raise SwarmUnavailable(
                f"the Ray at {address} cannot be joined ({type(error).__name__}: {_first_line(error)})",
                "Check the address, and that both sides use the same Ray version and token",
            ) from error
        _joined.append(address)
    return f"http://{context.dashboard_url}" if context.dashboard_url else ""


def embed(*, cpus: int | None, namespace: str, resources: Mapping[str, float] = {}) -> None:
    """Start a Ray whose processes are children of this one and die with it.

    ``resources`` are what it advertises beside cores and memory.

    Raises
    ------
    SessionConflict
        This process is already joined to a Ray.
    """
    if ray.is_initialized():
        raise SessionConflict("this process is already joined to a Ray", "Disconnect first, or connect to that Ray")
    _quiet_ray()
    _embedded.clear()
    _joined.clear()
    with _uninterrupted(), _unprinted():
        context = ray.init(
            address="local",  # without it Ray joins whatever Ray of this machine was started last
            num_cpus=cpus,
            resources=dict(resources),
            namespace=namespace,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _system_config=head.system_config(),
        )
        _embedded.append(str(context.address_info["session_dir"]))
        _joined.append("")


@contextlib.contextmanager
def _unprinted() -> Iterator[None]:
    """A Ray that is joined in the block prints no warnings: standard output belongs to who asked for an answer.

    ``log_to_driver=False`` does not keep Ray 2.60 from printing there that a worker has died, and nothing public does;
    `swarm health`, alerts and Ray's logs say it.
    """
    from ray._private import worker

    with _unprinting:
        listens = getattr(worker, "listen_error_messages", None)
        if listens is not None:
            worker.listen_error_messages = lambda *_: None
        try:
            yield
        finally:
            if listens is not None:
                worker.listen_error_messages = listens


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C in the block takes effect behind it: half joined to Ray, a process crashes or hangs as it ends.

    SIGTERM cannot be held up so, since Ray takes it over meanwhile; behind the block it is again what it was before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are not handled here
        return
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    known = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in known.items() if handler is not None}  # None: not Python's
    for number in before:
        signal.signal(number, lambda came, _frame: caught.append(came))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came in caught:
            signal.raise_signal(came)


def disconnect() -> None:
    """Undo one join. With the last of them this process leaves Ray; an embedded one ends, and its files go with it."""
    if not _joined:
        return
    _joined.pop()
    if _joined:
        return
    directory = _embedded.pop() if _embedded else ""
    mine = head.processes_of(directory)
    ray.shutdown()
    head.end(mine, head.STOP_GRACE_S)
    head.remove_session_directory(directory)


def joined() -> bool:
    """Whether this process has joined a Ray."""
    return bool(ray.is_initialized())


def answered_in(group: str) -> Callable[[F], F]:
    """Decorator of an actor's method: its calls are answered by the threads of this concurrency group."""
    decorate: Callable[[F], F] = ray.method(concurrency_group=group)
    return decorate


def spawn(
    cls: type,
    *arguments: Any,
    name: str,
    namespace: str,
    concurrency_groups: dict[str, int],
    max_concurrency: int | None = None,
    max_pending_calls: int = -1,
    resources: dict[str, float] | None = None,
    place: Any = None,
) -> Any:
    """Create ``cls`` as a named, detached actor that Ray restarts for ever and whose calls Ray never repeats.

    Agents ask for no CPU: a roster is larger than a laptop has cores, and Ray would count, not pin, them. ``place`` is
    one of :func:`places` or :func:`place_on`; without one Ray chooses.

    Raises
    ------
    SessionConflict
        An actor of that name lives in the namespace; nothing was created.
    """
    options: dict[str, Any] = {
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_pending_calls": max_pending_calls,
        "concurrency_groups": concurrency_groups,
        "resources": resources,
    }
    if place is not None:
        options["scheduling_strategy"] = place
    if max_concurrency is not None:
        options["max_concurrency"] = max_concurrency
    actor_class: Any = ray.remote(**options)(cls)
    try:
        return actor_class.options(name=name, namespace=namespace, lifetime="detached").remote(*arguments)
    except ActorAlreadyExistsError as error:
        raise SessionConflict(
            f"an actor named {name} already lives in namespace {namespace} of this Ray",
            "Use the swarm that lives there, take it down, or set another `namespace`",
        ) from error


def nodes() -> list[str]:
    """Ids of the nodes that live."""
    return [str(node["NodeID"]) for node in ray.nodes() if node["Alive"]]


def places(group: str, addresses: Sequence[str]) -> list[Any]:
    """Places for actors on as many nodes as there are: each on one of its own where they suffice.

    An actor is restarted in its place, so on the same node, as long as that lives. With one node they are places
    anywhere; with more, a placement group of this name holds them until :func:`release`.

    Parameters
    ----------
    addresses : sequence of str
        Of the machine that each must be on, because its files are there; empty, or of none that lives: on any.

    Raises
    ------
    SwarmUnavailable
        Ray does not grant them.
    """
    release(group)
    alive = Counter(str(node["NodeManagerAddress"]) for node in ray.nodes() if node["Alive"])
    if alive.total() < 2:
        return [None] * len(addresses)
    bound = Counter(address for address in addresses if address in alive)
    strategy = "STRICT_SPREAD" if alive.total() >= len(addresses) and bound <= alive else "SPREAD"
    bundles = [PLACE | ({f"node:{address}": ON_THIS} if address in alive else {}) for address in addresses]
    made = placement_group(bundles, strategy=strategy, name=group, lifetime="detached")
    if not made.wait(PLACES_S):
        remove_placement_group(made)
        raise SwarmUnavailable(
            f"Ray grants no {len(addresses)} places on {alive.total()} nodes", "See what `ray status` says"
        )
    return [PlacementGroupSchedulingStrategy(made, placement_group_bundle_index=place) for place in range(len(bundles))]


def place_on(node: str) -> Any:
    """A place on this node, and on no other one should it die."""
    return NodeAffinitySchedulingStrategy(node, soft=False)


def release(group: str) -> None:
    """Give up the places of this name, where there are any; who still lives in them dies."""
    with contextlib.suppress(ValueError, RayError):  # there is none, or Ray has ended and with it all places
        remove_placement_group(get_placement_group(group))


def find_actor(name: str, namespace: str) -> Any:
    """Handle of a named actor.

    Raises
    ------
    SwarmUnavailable
        No such actor lives in the namespace.
    """
    _must_be_joined()
    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError as error:
        raise SwarmUnavailable(f"no `{name}` actor lives in namespace {namespace}", "Run `swarm up`") from error
    except RayError as error:
        raise SwarmUnavailable(f"Ray does not answer ({_first_line(error)})", "Run `swarm health`") from error


def wait_for(reference: Any, timeout_s: float) -> Any:
    """The value of one Ray call, with errors as this house knows them.

    Raises
    ------
    SwarmError
        The error the actor raised, unwrapped.
    DeadlineExceeded
        No answer within ``timeout_s`` seconds.
    ActorUnreachable
        The actor's process is dead or restarting.
    """
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError as error:
        raise swarm_error(error) or error from None
    except GetTimeoutError:
        raise DeadlineExceeded(
            f"no answer within {timeout_s:.3f} s", "Allow more time, or run `swarm health`"
        ) from None


def teller(method: Any) -> Callable[..., bool]:
    """A function that calls an actor's method, wants no answer and never waits; it says whether the call was taken.

    Ray keeps no record of such calls for its list of tasks and its timeline: that costs an eighth of a call at either
    end, and a committee's letters would leave room for nothing else there.
    """
    prepared = method.options(num_returns=0, enable_task_events=False)

    def tell(*arguments: Any) -> bool:
        try:
            prepared.remote(*arguments)
        except Exception:  # Ray raises all sorts where a peer is not what it was; whoever tells must not fall over that
            return False
        return True

    return tell


def first_of(references: Sequence[Any], count: int, timeout_s: float) -> tuple[list[Any], list[Any]]:
    """(calls that have ended, others), as soon as ``count`` have ended or the time is up."""
    done, others = ray.wait(list(references), num_returns=min(count, len(references)), timeout=max(0.0, timeout_s))
    return done, others


def swarm_error(error: BaseException) -> SwarmError | None:
    """The SwarmError inside what Ray raised, or None when it holds another kind."""
    cause = getattr(error, "cause", error)
    return cause if isinstance(cause, SwarmError) else None


def free_resources() -> dict[str, float]:
    """What the nodes of the joined Ray advertise together and nobody has been granted, by name."""
    return {str(name): float(amount) for name, amount in ray.available_resources().items()}


def granted_resources() -> dict[str, float]:
    """What Ray granted the actor this process is."""
    return {str(name): float(amount) for name, amount in ray.get_runtime_context().get_assigned_resources().items()}


def node_id() -> str:
    """Id of the Ray node this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def node_address() -> str:
    """Address of the machine this process runs on, as Ray knows it."""
    return str(ray.util.get_node_ip_address())


def own_handle() -> Any:
    """Handle of the actor this process is."""
    return ray.get_runtime_context().current_actor


def was_restarted() -> bool:
    """Whether Ray restarted the actor this process is."""
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)


def own_namespace() -> str:
    """Namespace of the actor this process is."""
    return str(ray.get_runtime_context().namespace)


def share(value: Any) -> Any:
    """Put ``value`` into the object store; agents of this node read its arrays without a copy."""
    return ray.put(value)


def kill(actor: Any) -> None:
    """End an actor for good."""
    with contextlib.suppress(RayError):
        ray.kill(actor, no_restart=True)


def named_actors(namespace: str) -> list[str]:
    """Names of the living named actors in ``namespace``.

    Raises
    ------
    SwarmUnavailable
        This process has joined no Ray.
    """
    _must_be_joined()
    actors = ray.util.list_named_actors(all_namespaces=True)
    return sorted(entry["name"] for entry in actors if entry["namespace"] == namespace)


def _must_be_joined() -> None:
    if not ray.is_initialized():  # Ray would join, or start, some Ray of its own choice
        raise SwarmUnavailable("this process has left the swarm", "Make a new client")


def _speaks_http2(host: str, port: int) -> bool:
    """Whether a server there answers as a gRPC server does. Ray itself would wait for minutes for one that does not."""
    try:
        with socket.create_connection((host, port), timeout=PROBE_S) as probe:
            probe.sendall(HTTP2_PREFACE)
            return probe.recv(4)[3:4] == HTTP2_SETTINGS
    except OSError:
        return False


def use_token(*, create: bool) -> None:
    """Token authentication, with the token Ray itself keeps, unless the user set ``RAY_AUTH_MODE``.

    Ray 2.60 does this by itself for a Ray it starts inside a process and for one it finds, not for ``ray start`` and
    not for an address that is named; these are the functions it uses itself, and there are no public ones.
    """
    from ray._private.authentication import authentication_token_setup as setup

    _quiet_ray()
    if create:
        setup.enable_token_auth_by_default()
        setup.ensure_token_if_auth_enabled(create_token_if_missing=True)
    else:
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _quiet_ray() -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
