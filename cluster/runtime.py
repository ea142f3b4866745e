"""The Ray runtime: start a head node, join one, embed one, and take down only what we started.

Two ways to own a Ray: :func:`start_head` runs ``ray start --head --block`` in a process of its own, which outlives
the terminal and takes every Ray process with it when it ends (the kernel delivers the death of the parent);
:func:`embed` starts Ray as children of this process. Ray's own ports listen on every interface, whatever address a
node is given, so a Ray started here always asks for Ray's token; the dashboard is on loopback. The rest of the house
reaches Ray through the functions below, nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    PendingCallsLimitExceeded,
    RayActorError,
    RayError,
    RayTaskError,
)

from cluster.errors import BootFailed, DeadlineExceeded, SessionConflict, SwarmError, SwarmUnavailable
from cluster.session import Process

F = TypeVar("F", bound=Callable[..., Any])

LOOPBACK = "127.0.0.1"
POLL_S = 0.05
STOP_GRACE_S = 2.0  # how long Ray may take to end by itself before it is killed; agents have nothing to save
KILL_GRACE_S = 10.0  # how long the kernel may take to remove what was killed

_embedded: list[str] = []
"""Session directory of the Ray that :func:`embed` started in this process; empty while there is none."""

ActorUnreachable = RayActorError
"""What a call raises when the actor's process is dead or restarting."""
QueueFull = PendingCallsLimitExceeded
"""What a call raises when the caller has too many of them waiting at that actor."""
ObjectLost = ObjectLostError
"""What reading a shared value raises when its owner died."""


@dataclass(frozen=True)
class Head:
    """A Ray head node that we started."""

    launcher: Process
    address: str
    dashboard_url: str
    session_directory: str
    """Where it keeps its logs and sockets."""


def start_head(*, port: int, dashboard_port: int, cpus: int | None, log: Path, deadline_s: float) -> Head:
    """Start a Ray head on this machine, detached from this terminal.

    Raises
    ------
    SessionConflict
        The port is taken; nothing was started.
    BootFailed
        Ray ended or did not listen before the deadline; nothing is left running.
    """
    _refuse_taken_port(port, "ray.port")
    _refuse_taken_port(dashboard_port, "ray.dashboard_port")
    _quiet_ray()
    _use_token(create=True)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--port", str(port)),
        *("--dashboard-host", LOOPBACK, "--dashboard-port", str(dashboard_port)),
        *(("--num-cpus", str(cpus)) if cpus is not None else ()),
    ]
    with log.open("ab") as sink:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    launcher = Process.of(child.pid)
    if not until(lambda: _listening(port) or child.poll() is not None, deadline_s):
        stop(launcher, _session_directory_of(launcher.pid))
        raise BootFailed(f"Ray did not listen on port {port} within {deadline_s:g} s", f"Look into {log}")
    if child.poll() is not None:
        raise BootFailed(f"Ray ended while starting (exit {child.returncode})", f"Its own words are in {log}")
    return Head(
        launcher=launcher,
        address=f"{LOOPBACK}:{port}",
        dashboard_url=f"http://{LOOPBACK}:{dashboard_port}",
        session_directory=_session_directory_of(launcher.pid),
    )


def connect(address: str, namespace: str) -> str:
    """Join this process to the Ray at ``address`` as a driver; a process already joined stays as it is.

    Returns
    -------
    str
        Address of Ray's dashboard; empty where it has none or this process had joined before.

    Raises
    ------
    SwarmUnavailable
        Nothing that speaks Ray answers there.
    """
    if ray.is_initialized():
        return ""
    _quiet_ray()
    host, _, port = address.rpartition(":")
    if not address.startswith("ray://") and port.isdigit() and not _listening(int(port), host or LOOPBACK):
        raise SwarmUnavailable(f"no Ray listens at {address}", "Start a swarm with `swarm up`, or name its --address")
    _use_token(create=False)
    try:
        context = ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, RuntimeError, ConnectionError, ValueError, OSError) as error:
        raise SwarmUnavailable(
            f"the Ray at {address} cannot be joined ({type(error).__name__}: {_first_line(error)})",
            "Check the address, and that both sides use the same Ray version and token",
        ) from error
    return f"http://{context.dashboard_url}" if context.dashboard_url else ""


def embed(*, cpus: int | None, namespace: str) -> None:
    """Start a Ray whose processes are children of this one and die with it.

    Raises
    ------
    SessionConflict
        This process is already joined to a Ray.
    """
    if ray.is_initialized():
        raise SessionConflict("this process is already joined to a Ray", "Disconnect first, or connect to that Ray")
    _quiet_ray()
    context = ray.init(
        address="local",  # without it Ray joins whatever Ray of this machine was started last
        num_cpus=cpus,
        namespace=namespace,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    _embedded.append(str(context.address_info["session_dir"]))


def disconnect() -> None:
    """Leave the Ray this process joined; an embedded one ends, and its files go with it."""
    if not ray.is_initialized():
        return
    before = _descendants(os.getpid()) if _embedded else []
    directory = _embedded.pop() if _embedded else ""
    ray.shutdown()
    mine = [process for name, process in before if directory and _belongs_to(process, name, directory)]
    _end(mine, STOP_GRACE_S)
    _remove_session_directory(directory)


def joined() -> bool:
    """Whether this process has joined a Ray."""
    return bool(ray.is_initialized())


def stop(launcher: Process, directory: str) -> None:
    """End a head that :func:`start_head` began with everything below it, and remove its files.

    The launcher itself does not heed SIGTERM while it blocks, so its children are asked first and it is killed last.
    """
    if launcher.alive():
        children = [process for _, process in _descendants(launcher.pid)]
        for process in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(children, timeout=STOP_GRACE_S)
        _end([*children, psutil.Process(launcher.pid)], grace_s=0.0)
    _remove_session_directory(directory)


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
) -> Any:
    """Create ``cls`` as a named, detached actor that Ray restarts for ever and whose calls Ray never repeats.

    Agents ask for no CPU: a roster is larger than a laptop has cores, and Ray would count, not pin, them.
    """
    options: dict[str, Any] = {
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_pending_calls": max_pending_calls,
        "concurrency_groups": concurrency_groups,
        "resources": resources,
    }
    if max_concurrency is not None:
        options["max_concurrency"] = max_concurrency
    actor_class: Any = ray.remote(**options)(cls)
    return actor_class.options(name=name, namespace=namespace, lifetime="detached").remote(*arguments)


def find_actor(name: str, namespace: str) -> Any:
    """Handle of a named actor.

    Raises
    ------
    SwarmUnavailable
        No such actor lives in the namespace.
    """
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


def swarm_error(error: BaseException) -> SwarmError | None:
    """The SwarmError inside what Ray raised, or None when it holds another kind."""
    cause = getattr(error, "cause", error)
    return cause if isinstance(cause, SwarmError) else None


def node_id() -> str:
    """Id of the Ray node this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def own_handle() -> Any:
    """Handle of the actor this process is."""
    return ray.get_runtime_context().current_actor


def was_restarted() -> bool:
    """Whether Ray restarted the actor this process is."""
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)


def share(value: Any) -> Any:
    """Put ``value`` into the object store; agents of this node read its arrays without a copy."""
    return ray.put(value)


def kill(actor: Any) -> None:
    """End an actor for good."""
    with contextlib.suppress(RayError):
        ray.kill(actor, no_restart=True)


def named_actors(namespace: str) -> list[str]:
    """Names of the living named actors in ``namespace``."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    return sorted(entry["name"] for entry in actors if entry["namespace"] == namespace)


def until(done: Callable[[], bool], deadline_s: float) -> bool:
    """Poll ``done`` until it holds or ``deadline_s`` seconds have passed; whether it held."""
    give_up = time.monotonic() + deadline_s
    while not done():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True


def _refuse_taken_port(port: int, setting: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise SessionConflict(
                f"port {port} is taken ({error.strerror})",
                f"Free it, join the Ray behind it with --address {LOOPBACK}:{port}, or pick another by "
                f"--set {setting}=PORT",
            ) from error


def _listening(port: int, host: str = LOOPBACK) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2.0):
            return True
    except OSError:
        return False


def _use_token(*, create: bool) -> None:
    """Token authentication, with the token Ray itself keeps, unless the user set ``RAY_AUTH_MODE``.

    Ray 2.60 does this by itself for a Ray it starts inside a process and for one it finds, not for ``ray start`` and
    not for an address that is named; these are the functions it uses itself, and there are no public ones.
    """
    from ray._private.authentication import authentication_token_setup as setup

    if create:
        setup.enable_token_auth_by_default()
        setup.ensure_token_if_auth_enabled(create_token_if_missing=True)
    else:
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _quiet_ray() -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)


def _descendants(pid: int) -> list[tuple[str, psutil.Process]]:
    found: list[tuple[str, psutil.Process]] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append((process.name(), process))
    return found


def _belongs_to(process: psutil.Process, name: str, directory: str) -> bool:
    """Whether a child of this process is part of the Ray of ``directory``: by its command line, or as a worker."""
    try:
        return name.startswith("ray::") or Path(directory).name in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _end(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """Wait for processes to end; kill what is left after the grace, and wait for that too."""
    _, alive = psutil.wait_procs(list(processes), timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=KILL_GRACE_S)


def _session_directory_of(pid: int) -> str:
    """Session directory of the Ray below a process, read from its GCS server's command line; "" where there is none."""
    for name, process in _descendants(pid):
        if "gcs_server" in name:
            with contextlib.suppress(psutil.NoSuchProcess):
                found = re.search(r"=(/\S*/session_[^/\s]+)", " ".join(process.cmdline()))
                return found.group(1) if found else ""
    return ""


def _remove_session_directory(directory: str) -> None:
    """Remove one Ray session's files, and what Ray keeps beside them once no other session is there."""
    session = Path(directory)
    if not session.name.startswith("session_"):
        return
    shutil.rmtree(session, ignore_errors=True)
    latest = session.parent / "session_latest"
    if latest.is_symlink() and not latest.exists():
        latest.unlink()
    if not any(session.parent.glob("session_*")):
        for name in ("ray_current_cluster", "prom_metrics_service_discovery.json"):
            (session.parent / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            session.parent.rmdir()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
