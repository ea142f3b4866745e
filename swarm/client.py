"""The Python client: submit coordinated risk calculations to a swarm, from any process that can reach it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from cluster import runtime, session
from cluster.errors import InvalidRequest, LanesUnavailable, Overloaded, SwarmError, SwarmUnavailable
from cluster.lanes.port import PortStatus
from consensus.committee import CommitteeClient
from consensus.decisions import Decision, read_committee
from hive.desk import COMMON, FastDesk, FastResult
from hive.figures import SHOWN
from hive.market.snapshot import SnapshotHeader
from hive.messages.alert import SwarmAlerts
from hive.messages.calculation import (
    DEFAULT_CONFIDENCES,
    CalculationRequest,
    CalculationResult,
    CalculationType,
    Parameters,
    Role,
    Shock,
    Task,
)
from hive.messages.fast import SERVING_LANES, Caller, boot_id
from hive.messages.health import LateAnswer, RolePerformance, SwarmHealth
from hive.messages.mandate import Limits
from hive.messages.portfolio import Book, Portfolio, resolve
from hive.messages.question import Question
from hive.messages.ticks import SourceKind, TickRequest, TickStatus, TickStream, WatchedBook, Watching
from hive.reference import Distance, Reference
from hive.routing.page import Route, RoutingAddress
from hive.routing.reference import RoutedReference
from hive.routing.router import Router
from hive.watch import Watch
from swarm.settings import Settings, load, swarm_home

if TYPE_CHECKING:
    from actors.trading.gate.client import GateClient

Deadline = float | datetime.timedelta | datetime.datetime
"""Seconds from now, a span from now, or a point in time with its time zone."""

GRACE_S = 1.0  # beyond the deadline, for the hub's own word on what was late
RETRY_S = 0.1
MAX_DEADLINE_S = 1e9  # about thirty years; beyond lies arithmetic, not patience
MAX_SUBMITTED = 256  # futures of one client that may be outstanding
WORKERS = 32  # of them in flight at a time


class Options(TypedDict, total=False):
    """How to calculate; :meth:`SwarmClient.calculate` says what each means."""

    confidences: Sequence[float]
    horizon_days: int
    seed: int
    snapshot: str | None
    as_of: str | datetime.date | None
    shocks: Mapping[str, Mapping[str, float]]
    windows: Sequence[tuple[str, str]]
    given: Mapping[str, Mapping[str, float]]
    target_loss: float | None
    methods: Sequence[str]
    deadline: Deadline | None


class SwarmClient:
    """A connection to a swarm.

    ``SwarmClient()`` finds the swarm that ``swarm up`` recorded in ``SWARM_HOME``; ``SwarmClient("host:6379")`` goes
    to an address; ``with SwarmClient.embedded() as swarm:`` starts one that ends with the block. All methods may be
    called from several threads.

    Parameters
    ----------
    address : str, optional
        Ray address of the swarm.
    home : str or Path, optional
        Where to look for the session record instead of ``SWARM_HOME``.
    settings : Settings, optional
        Instead of those of the home; only the namespace and the default deadline matter to a client.

    Raises
    ------
    SwarmUnavailable
        No swarm answers there; the message says how to start one.
    """

    def __init__(
        self, address: str | None = None, *, home: str | Path | None = None, settings: Settings | None = None
    ) -> None:
        place = Path(home).expanduser().absolute() if home is not None else swarm_home()
        self._settings = settings if settings is not None else load(home=place)[0]
        namespace = self._settings.namespace
        if address is None and (home is not None or not runtime.joined()):
            address, namespace = _recorded(place)
        self._counted = address is not None  # without an address it is the Ray this process has joined already
        if address is not None:
            runtime.connect(address, namespace)
        self._namespace = namespace
        self._home = place
        self._closed = False
        self._hub: Any = None
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._outstanding = threading.BoundedSemaphore(MAX_SUBMITTED)
        self._router = Router(self._routing)
        try:
            self._find_hub()
        except BaseException:
            self.close()
            raise

    @classmethod
    @contextlib.contextmanager
    def embedded(
        cls,
        *,
        settings: Settings | None = None,
        home: str | Path | None = None,
        progress: Callable[[str, SwarmHealth | None], None] | None = None,
    ) -> Iterator[SwarmClient]:
        """A swarm inside this process for the length of a ``with`` block; nothing of it is left afterwards.

        Parameters
        ----------
        home : str or Path, optional
            Directory that keeps its snapshots; without it they go with the swarm.
        progress : callable, optional
            Told what is being waited for while the swarm boots.
        """
        from swarm import boot

        chosen = settings if settings is not None else load(home=swarm_home())[0]
        place = Path(home).expanduser().absolute() if home is not None else None
        with boot.embedded(chosen, progress or (lambda _text, _health: None), place) as kept:
            client = cls(settings=chosen)
            client._home = kept
            try:
                yield client
            finally:
                client.close()

    def calculate(
        self,
        portfolio: Portfolio,
        calculation: CalculationType | str = CalculationType.COMPREHENSIVE,
        *,
        confidences: Sequence[float] = DEFAULT_CONFIDENCES,
        horizon_days: int = 1,
        seed: int = 0,
        snapshot: str | None = None,
        as_of: str | datetime.date | None = None,
        shocks: Mapping[str, Mapping[str, float]] | None = None,
        windows: Sequence[tuple[str, str]] = (),
        given: Mapping[str, Mapping[str, float]] | None = None,
        target_loss: float | None = None,
        methods: Sequence[str] = (),
        deadline: Deadline | None = None,
    ) -> CalculationResult:
        """Run one coordinated calculation and wait for it.

        Parameters
        ----------
        confidences : sequence of float
            Confidence levels of the tail measures, 0.95 and the like.
        horizon_days : int
            Trading days.
        snapshot, as_of : str, optional
            Market snapshot by id or its beginning, or the current one cut at a date; the current one by default.
        shocks : mapping of name to {symbol: return}, optional
            Hypothetical moves beside the library's; ``"*"`` stands for every symbol not named.
        windows : sequence of (start, end) ISO dates, optional
            Historical stress windows beside the library's.
        given : mapping of name to {symbol: return}, optional
            Conditional stress: these symbols make these moves, the others follow by their dependence.
        target_loss : float, optional
            Loss that the reverse stress test looks for, a fraction of value.
        methods : sequence of str, optional
            Methods to apply, by name, or ``("all",)``; an agent that none of them belongs to applies its default.
        deadline : float, timedelta or datetime, optional
            When the answer is no longer wanted; ``hub.deadline_s`` from now by default, ``hub.methods_deadline_s``
            where methods are asked for.

        Raises
        ------
        InvalidInput
            Something in the portfolio or the parameters was refused; nothing was computed.
        CalculationIncomplete
            The agent without which there is no answer is late or has failed.
        DeadlineExceeded, Overloaded, SwarmUnavailable
            The hub did not answer in time, has no room, or is gone.
        """
        options = Options(
            confidences=confidences,
            horizon_days=horizon_days,
            seed=seed,
            snapshot=snapshot,
            as_of=as_of,
            shocks=shocks or {},
            windows=windows,
            given=given or {},
            target_loss=target_loss,
            methods=methods,
            deadline=deadline,
        )
        return self._run(self._request([portfolio], calculation, options))[0]

    def calculate_many(
        self,
        portfolios: Sequence[Portfolio],
        calculation: CalculationType | str = CalculationType.COMPREHENSIVE,
        **options: Unpack[Options],
    ) -> tuple[CalculationResult, ...]:
        """Run one calculation for several portfolios on one snapshot, in one call; options as of :meth:`calculate`.

        Results come in the order of the portfolios. One bad portfolio refuses them all.
        """
        return self._run(self._request(portfolios, calculation, options))

    def submit(
        self,
        portfolio: Portfolio,
        calculation: CalculationType | str = CalculationType.COMPREHENSIVE,
        **options: Unpack[Options],
    ) -> Future[CalculationResult]:
        """Like :meth:`calculate`, at once and with a future. The deadline counts from now, not from its turn.

        Raises
        ------
        InvalidInput
            The portfolio or the parameters were refused.
        Overloaded
            ``MAX_SUBMITTED`` futures of this client are outstanding; nothing was accepted.
        """
        request = self._request([portfolio], calculation, options)
        return self._submit(lambda: self._run(request)[0])

    async def calculate_async(
        self,
        portfolio: Portfolio,
        calculation: CalculationType | str = CalculationType.COMPREHENSIVE,
        **options: Unpack[Options],
    ) -> CalculationResult:
        """Like :meth:`calculate`, for asyncio."""
        return await asyncio.wrap_future(self.submit(portfolio, calculation, **options))

    async def calculate_many_async(
        self,
        portfolios: Sequence[Portfolio],
        calculation: CalculationType | str = CalculationType.COMPREHENSIVE,
        **options: Unpack[Options],
    ) -> tuple[CalculationResult, ...]:
        """Like :meth:`calculate_many`, for asyncio."""
        request = self._request(portfolios, calculation, options)
        return await asyncio.wrap_future(self._submit(lambda: self._run(request)))

    def health(self, timeout_s: float = 5.0) -> SwarmHealth:
        """Ping every agent and judge the swarm."""
        health: SwarmHealth = self._wait(self._find_hub().health.remote(), timeout_s)
        return health

    def performance(self, timeout_s: float = 5.0) -> tuple[RolePerformance, ...]:
        """How each agent has served since the hub started."""
        served: tuple[RolePerformance, ...] = self._wait(self._find_hub().performance.remote(), timeout_s)
        return served

    def alerts(self, timeout_s: float = 5.0) -> SwarmAlerts:
        """What must be known of the swarm itself: alerts that are open, and those of late."""
        found: SwarmAlerts = self._wait(self._find_hub().alerts.remote(), timeout_s)
        return found

    def late_answers(self, timeout_s: float = 5.0) -> tuple[LateAnswer, ...]:
        """Answers that came after their deadline."""
        late: tuple[LateAnswer, ...] = self._wait(self._find_hub().late_answers.remote(), timeout_s)
        return late

    def load_prices(
        self,
        path: str | Path,
        *,
        kind: Literal["prices", "returns"] = "prices",
        currency: str = "USD",
        index: str | None = None,
        accept_quarantine: bool = False,
        make_current: bool = True,
        timeout_s: float = 30.0,
    ) -> SnapshotHeader:
        """Read, validate and hand in a CSV or Parquet file; it becomes the current snapshot unless told otherwise.

        Raises
        ------
        InvalidMarketData
            The file does not pass validation; the market stays as it is.
        """
        from hive.market.sources import from_file

        snapshot = from_file(
            path,
            kind=kind,
            currency=currency,
            index=index,
            accept_quarantine=accept_quarantine,
            settings=self._settings.market,
        )
        header: SnapshotHeader = self._wait(self._market().add.remote(snapshot, make_current), timeout_s)
        return header

    def use_snapshot(self, snapshot: str, timeout_s: float = 30.0) -> SnapshotHeader:
        """Make a saved snapshot, named by id or its beginning, the current one."""
        header: SnapshotHeader = self._wait(self._market().use.remote(snapshot), timeout_s)
        return header

    def reference(
        self, agent: Role | str, *, wait: str = "park", distance: Distance | None = None
    ) -> RoutedReference | Reference:
        """Agents to be asked in numbers, the nearest way there is: see :mod:`hive.messages.fast`.

        Parameters
        ----------
        agent : Role or str
            A ``Role``: every question goes to the instance that is the least busy, without a word to the hub. A text:
            the agent of that name and no other, such as ``value_at_risk-2``; the first one carries the role's name.
        wait : "spin", "yield" or "park"
            How this process waits for answers over a lane.
        """
        self._refuse_closed()
        if isinstance(agent, Role):
            return RoutedReference(
                agent, self._namespace, self._router, self._instance_name, wait=wait, distance=distance
            )
        return Reference(agent, self._namespace, wait=wait, distance=distance)

    def routes(self, timeout_s: float = 5.0) -> tuple[tuple[Route, int], ...]:
        """The routing page as this process sees it: every instance, with the questions that wait there; no hub.

        Raises
        ------
        SwarmUnavailable
            The hub lives on another machine, or gave no page in time.
        """
        self._refuse_closed()
        view = self._router.view(timeout_s)
        if view is None:
            raise SwarmUnavailable("the hub's routing page is on another machine", "Run this where the hub runs")
        return view.routes()

    def lanes(self, timeout_s: float = 5.0) -> dict[str, PortStatus | None]:
        """What every agent that can serve lanes has carried over them; None where nobody has asked for one yet."""
        names = [agent.agent_id for agent in self.health(timeout_s).agents if agent.role in SERVING_LANES]
        found = {}
        for name in names:
            try:
                found[name] = self._wait(runtime.find_actor(name, self._namespace).lanes.remote(), timeout_s)
            except (SwarmError, runtime.ActorUnreachable):
                found[name] = None
        return found

    def gate(self, *, wait: str = "park", distance: Distance | None = None, timeout_s: float = 10.0) -> GateClient:
        """The pre-trade gate, over a lane of its own; a thread each. From another machine every order is a Ray call.

        Parameters
        ----------
        wait : "spin", "yield" or "park"
            How this process waits for verdicts over a lane.
        distance : Distance, optional
            ``Distance.CALL`` asks through Ray although there could be a lane.

        Raises
        ------
        SwarmUnavailable, DeadlineExceeded
            No gate answers; one that dies later rejects by its client, and is found again when it is back.
        """
        from actors.trading.gate.client import GateClient
        from actors.trading.gate.reach import RayReach

        self._refuse_closed()

        def decide(proposer: str, kind: str, payload: bytes) -> Decision:
            return self.committee(proposer=proposer).propose(kind, payload)

        reach = RayReach(self._namespace, wait=wait, lanes=distance != Distance.CALL)
        client = GateClient(reach=reach, decide=decide)
        client.facts(timeout_s)
        return client

    def committee(self, *, proposer: str = "", keys: str | Path | None = None) -> CommitteeClient:
        """The committee that decides what increases risk: propose, vote, finalize, and read its log.

        Parameters
        ----------
        proposer : str
            Who moves what is proposed here, for the log.
        keys : str or Path, optional
            File of the committee's public keys, which every decision is verified against, instead of the home's. What
            is proved of later epochs is kept beside it.

        Raises
        ------
        SwarmUnavailable
            The swarm has no committee.
        InvalidInput
            The file of its keys cannot be read, or that of its epochs beside it does not hold.
        """
        self._refuse_closed()
        path = Path(keys) if keys is not None else self._home / "consensus" / "committee.json"
        if keys is None and not path.exists():
            raise SwarmUnavailable(f"no committee is founded in {self._home}", "Set consensus.voters to 4, 7 or 10")
        first = read_committee(path)
        deadline_s = self._settings.consensus.deadline_s
        return CommitteeClient(
            first, self._namespace, deadline_s=deadline_s, proposer=proposer, folder=path.absolute().parent
        )

    def agree(
        self,
        portfolio: Portfolio,
        measure: str = "var",
        *,
        tolerance: float,
        confidence: float | None = None,
        method: str = "",
        horizon_days: int = 1,
        calculation: CalculationType | str = CalculationType.VAR_CVAR,
        snapshot: str | None = None,
        deadline_s: float | None = None,
        committee: CommitteeClient | None = None,
    ) -> Decision:
        """Have the committee agree on one figure: every voter asks an agent for it, and signs what it was told.

        Parameters
        ----------
        measure, method, confidence : str, str, float
            Of the figure, as reports name them; the first that fits, where ``method`` is empty. Figures of a tail need
            their confidence.
        tolerance : float
            How far from the median a voter's number may be and be no outlier.
        calculation : CalculationType
            Of one agent alone.
        committee : CommitteeClient, optional
            Instead of the home's.

        Returns
        -------
        Decision
            With the median, the trimmed mean and the outliers in :attr:`consensus.decisions.Decision.number`.

        Raises
        ------
        InvalidPortfolio, InvalidRequest
            The book cannot be priced, the calculation is of several agents, or their report has no such figure.
        Refused, Undecided, NoQuorum
            As :meth:`consensus.committee.CommitteeClient.estimate`.
        """
        kind = CalculationType.parse(calculation)
        if len(kind.roles) != 1:
            raise InvalidRequest(f"{kind} asks several agents", "Name one of: var, stress, correlation, liquidity")
        header = self.snapshot(snapshot)
        book = _priced(portfolio, header)
        voters = committee if committee is not None else self.committee(proposer="SwarmClient.agree")
        patience_s = self._settings.consensus.deadline_s if deadline_s is None else deadline_s
        levels = DEFAULT_CONFIDENCES if confidence is None else (confidence,)
        asked = Parameters(confidences=levels, horizon_days=horizon_days)
        until_ns = time.time_ns() + int(patience_s * 1e9)
        task = Task(secrets.token_hex(8), header.snapshot_id, (book,), asked, until_ns)
        question = Question(kind.roles[0], measure, method, confidence, task)
        return voters.estimate(question.text, tolerance, deadline_s=patience_s)

    def calculate_fast(self, portfolio: Portfolio, *, confidence: float = 0.95, timeout_s: float = 10.0) -> FastResult:
        """What :meth:`fast` gives, asked of the hub, which has the lanes: one Ray call, from any machine.

        Raises
        ------
        InvalidPortfolio, Overloaded
            As :meth:`fast` and :meth:`calculate` say.
        """
        result: FastResult = self._wait(self._find_hub().calculate_fast.remote(portfolio, confidence), timeout_s)
        return result

    def fast(
        self, portfolio: Portfolio, *, confidence: float = 0.95, wait: str = "park", patience_s: float | None = None
    ) -> FastDesk:
        """Five agents to be asked about one portfolio again and again, over lanes, without a Ray call.

        Raises
        ------
        InvalidPortfolio
            It cannot be priced at the current snapshot, or holds what numbers alone do not say: foreign currencies
            and convexity.
        """
        header = self.snapshot()
        book = _priced(portfolio, header)
        patience = self._settings.lanes.patience_s if patience_s is None else patience_s
        return FastDesk({role: self.reference(role, wait=wait) for role in COMMON}, book, confidence, patience)

    def watch(
        self,
        portfolio: Portfolio | None = None,
        *,
        limits: Limits | None = None,
        as_of: str | datetime.date | None = None,
        wait: str = "park",
        timeout_s: float = 30.0,
    ) -> Watch:
        """Have a book watched at every tick, and hear its alerts and figures in this process, without Ray calls.

        A swarm watches one book. It goes on when this process ends, and when its agents die and come back.

        Parameters
        ----------
        portfolio : Portfolio, optional
            Instead of the one that is watched. Its units stay as they are from now on.
        limits : Limits, optional
            Instead of the portfolio's own; those left None are as the settings say.
        as_of : str or date, optional
            Price it, and take its covariances, as of this day, and stay with that: for a replay of what came after.
        wait : "spin", "yield" or "park"
            How this process waits for alerts.

        Raises
        ------
        InvalidPortfolio
            It cannot be priced, states no value, or is not linear and of one currency.
        LanesUnavailable
            This process is not on the swarm's machine.
        SwarmUnavailable
            No book is watched, and none is given.
        """
        market = self._market()
        stream: TickStream = self._wait(market.tick_stream.remote(), timeout_s)
        if stream.boot_id != boot_id():
            raise LanesUnavailable("the swarm is on another machine", "Watch from a process of its machine")
        before: WatchedBook | None = self._wait(market.watched.remote(), timeout_s)
        book = before if portfolio is None else self._watched(portfolio, limits, as_of)
        if book is None:
            raise SwarmUnavailable("no book is watched", "Name one: `swarm watch --portfolio book.csv`")
        fresh = before is None or before.watch_id != book.watch_id
        if before is not None and not fresh:
            book = before  # with the peak that it has reached since
        else:
            self._wait(market.watch.remote(book), timeout_s)
        calls = {role: self._watching(role, book, wait) for role in SHOWN}
        found: dict[Role, Watching | str] = {}
        for role, call in calls.items():
            try:
                found[role] = call if isinstance(call, str) else self._wait(call, timeout_s)
            except SwarmError as error:
                found[role] = str(error)
        return Watch(book.watch_id, book.name, self._namespace, found, fresh=fresh, wait=wait)

    def unwatch(self, timeout_s: float = 30.0) -> None:
        """Have no book watched any more."""
        self._wait(self._market().watch.remote(None), timeout_s)
        for role in SHOWN:
            with contextlib.suppress(SwarmUnavailable):
                self._wait(runtime.find_actor(role.value, self._namespace).unwatch.remote(), timeout_s)

    def start_ticks(
        self,
        kind: SourceKind | str,
        *,
        speed: float = math.inf,
        rate: float = 10_000.0,
        count: int = 100_000,
        seed: int = 0,
        first: str | datetime.date | None = None,
        last: str | datetime.date | None = None,
        timeout_s: float = 30.0,
    ) -> TickStatus:
        """Start a source of ticks: a replay of the current snapshot's closes, or a burst of made-up moves.

        Parameters
        ----------
        speed : float
            Seconds of the ticks' time for every second of the clock; infinite does not wait.
        rate, count, seed
            Of a burst: ticks a second, how many, and where its draws begin.
        first, last : str or date, optional
            First and last day of a replay.

        Raises
        ------
        InvalidRequest
            A source is running, or this one cannot be.
        InvalidMarketData
            The snapshot has no prices.
        """
        try:
            known = SourceKind(kind)
        except ValueError as error:
            raise InvalidRequest(f"the source {kind!r} is unknown", "Give replay or burst") from error
        days = [None if day is None else str(day) for day in (first, last)]
        request = TickRequest(known, float(speed), float(rate), int(count), int(seed), *days)
        return self._ticks(lambda market: market.start_ticks.remote(request), timeout_s)

    def push_ticks(
        self, prices: Mapping[str, float], *, at_ns: int | None = None, timeout_s: float = 30.0
    ) -> TickStatus:
        """Tell new prices by symbol, now or at a UTC time in ns: how a feed of your own comes in.

        Raises
        ------
        InvalidMarketData
            A symbol is unknown, or a price is not positive and finite; nothing was told.
        InvalidRequest
            A source is running.
        """
        pushed = (list(prices), list(prices.values()), at_ns)
        return self._ticks(lambda market: market.push_ticks.remote(*pushed), timeout_s)

    def stop_ticks(self, *, forget: bool = False, timeout_s: float = 30.0) -> TickStatus:
        """End the source that is running; with ``forget``, books watched from now on stand at the snapshot's prices."""
        return self._ticks(lambda market: market.stop_ticks.remote(forget), timeout_s)

    def ticks(self, timeout_s: float = 5.0) -> TickStatus:
        """What the ticks are doing."""
        return self._ticks(lambda market: market.ticks.remote(), timeout_s)

    def snapshot(
        self, snapshot: str | None = None, *, as_of: str | datetime.date | None = None, timeout_s: float = 30.0
    ) -> SnapshotHeader:
        """Header of a snapshot: the current one, one by id, or one cut at a date."""
        date = str(as_of) if as_of is not None else None
        header: SnapshotHeader = self._wait(self._market().header.remote(snapshot, date), timeout_s)
        return header

    def snapshots(self, timeout_s: float = 30.0) -> tuple[str, tuple[SnapshotHeader, ...]]:
        """Id of the current snapshot, and the headers of all saved ones, newest first."""
        headers: tuple[str, tuple[SnapshotHeader, ...]] = self._wait(self._market().headers.remote(), timeout_s)
        return headers

    def close(self) -> None:
        """Finish what was submitted and leave the swarm, which goes on without this client. Twice does no harm."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
        self._router.close()
        if self._counted:
            runtime.disconnect()

    def __enter__(self) -> SwarmClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(
        self, portfolios: Sequence[Portfolio], calculation: CalculationType | str, options: Options
    ) -> CalculationRequest:
        """The question as the hub takes it, validated; its deadline is fixed from here on."""
        strange = sorted(set(options) - set(Options.__annotations__))
        if strange:
            raise TypeError(
                f"{strange[0]!r} is no option of a calculation; known are {', '.join(Options.__annotations__)}"
            )
        as_of = options.get("as_of")
        shocks = options.get("shocks", {})
        return CalculationRequest(
            portfolios=tuple(portfolios),
            calculation=CalculationType.parse(calculation),
            parameters=Parameters(
                confidences=tuple(_as_float(level) for level in options.get("confidences", DEFAULT_CONFIDENCES)),
                horizon_days=options.get("horizon_days", 1),
                seed=options.get("seed", 0),
                shocks=tuple(Shock(name, dict(moves)) for name, moves in shocks.items()),
                windows=tuple(options.get("windows", ())),
                given=tuple(Shock(name, dict(moves)) for name, moves in options.get("given", {}).items()),
                target_loss=options.get("target_loss"),
                methods=tuple(options.get("methods", ())),
            ),
            deadline_utc_ns=self._deadline_ns(options.get("deadline"), with_methods=bool(options.get("methods"))),
            snapshot_id=options.get("snapshot"),
            as_of=str(as_of) if as_of is not None else None,
        )

    def _run(self, request: CalculationRequest) -> tuple[CalculationResult, ...]:
        results: tuple[CalculationResult, ...] = self._ask_hub(
            lambda hub: hub.calculate.remote(request), request.deadline_utc_ns
        )
        return results

    def _ask_hub(self, call: Callable[[Any], Any], deadline_utc_ns: int) -> Any:
        """Ask the hub until it answers or the deadline passes; a hub that dies over a question is asked again."""
        while True:
            left_s = (deadline_utc_ns - time.time_ns()) / 1e9
            try:
                return runtime.wait_for(call(self._find_hub()), max(0.0, left_s) + GRACE_S)
            except runtime.QueueFull as error:
                raise Overloaded("too many calls of this client wait at the hub", "Wait for some") from error
            except runtime.ActorUnreachable as error:
                self._hub = None
                if (deadline_utc_ns - time.time_ns()) / 1e9 < RETRY_S:
                    raise SwarmUnavailable(
                        "the hub died and did not come back before the deadline", "Run `swarm health`, and try again"
                    ) from error
                time.sleep(RETRY_S)

    def _wait(self, reference: Any, timeout_s: float) -> Any:
        try:
            return runtime.wait_for(reference, timeout_s)
        except runtime.ActorUnreachable as error:
            self._hub = None
            raise SwarmUnavailable(
                "the agent's process is dead or restarting", "Try again in a few seconds, or run `swarm health`"
            ) from error

    def _find_hub(self) -> Any:
        self._refuse_closed()
        with self._lock:
            if self._hub is None:
                self._hub = runtime.find_actor(Role.HUB.value, self._namespace)
            return self._hub

    def _refuse_closed(self) -> None:
        if self._closed or not runtime.joined():
            raise SwarmUnavailable("this client is closed", "Make a new one")

    def _routing(self, caller: Caller, patience_s: float) -> RoutingAddress:
        address: RoutingAddress = self._wait(self._find_hub().routing.remote(caller), patience_s)
        return address

    def _instance_name(self, role: Role, patience_s: float) -> str:
        name: str = self._wait(self._find_hub().name.remote(role), patience_s)
        return name

    def _market(self) -> Any:
        self._refuse_closed()
        return runtime.find_actor(Role.MARKET_DATA.value, self._namespace)

    def _ticks(self, call: Callable[[Any], Any], timeout_s: float) -> TickStatus:
        status: TickStatus = self._wait(call(self._market()), timeout_s)
        return status

    def _watched(self, portfolio: Portfolio, limits: Limits | None, as_of: str | datetime.date | None) -> WatchedBook:
        header = self.snapshot(as_of=as_of)
        book = _priced(portfolio, header)
        return WatchedBook.of(
            book,
            last_prices=header.last_prices,
            symbols=header.symbols,
            limits=limits,
            snapshot_id=None if as_of is None else header.snapshot_id,
        )

    def _watching(self, role: Role, book: WatchedBook, wait: str) -> Any:
        """The call that has an agent watch, or why there is none."""
        try:
            return runtime.find_actor(role.value, self._namespace).watch.remote(book, Caller.here(wait))
        except SwarmUnavailable as error:
            return str(error)

    def _submit(self, work: Callable[[], Any]) -> Future[Any]:
        self._refuse_closed()
        if not self._outstanding.acquire(blocking=False):
            raise Overloaded(f"{MAX_SUBMITTED} calculations of this client are outstanding", "Wait for some of them")
        try:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="swarm-client")
                future = self._pool.submit(work)
        except BaseException:
            self._outstanding.release()
            raise
        future.add_done_callback(lambda _: self._outstanding.release())
        return future

    def _deadline_ns(self, deadline: Deadline | None, *, with_methods: bool) -> int:
        now_ns = time.time_ns()
        if isinstance(deadline, datetime.datetime):
            if deadline.tzinfo is None:
                raise InvalidRequest(f"the deadline {deadline} has no time zone", "Give it one, such as UTC")
            deadline_ns = int(deadline.timestamp() * 1e9)
        else:
            span = deadline.total_seconds() if isinstance(deadline, datetime.timedelta) else deadline
            if span is not None and not abs(span) <= MAX_DEADLINE_S:
                raise InvalidRequest(f"the deadline of {span!r} s is no usable span", "Give seconds, such as 5.0")
            default = self._settings.hub.methods_deadline_s if with_methods else self._settings.hub.deadline_s
            deadline_ns = now_ns + int((default if span is None else span) * 1e9)
        if deadline_ns <= now_ns:
            raise InvalidRequest("the deadline lies in the past", "Give one in the future")
        return deadline_ns


def _priced(portfolio: Portfolio, header: SnapshotHeader) -> Book:
    """A portfolio at a snapshot's prices; raises as :func:`resolve`."""
    return resolve(
        portfolio,
        symbols=header.symbols,
        currency=header.currency,
        last_prices=header.last_prices,
        average_volumes=header.average_volumes,
    )


def _recorded(home: Path) -> tuple[str, str]:
    """Address and namespace of the swarm recorded in ``home``."""
    record = session.read(home)
    if record is None:
        raise SwarmUnavailable(f"no swarm is recorded in {home}", "Run `swarm up`, or name its --address")
    if record.stale():
        raise SwarmUnavailable(
            f"the swarm of {record.started_utc} recorded in {home} is gone",
            "Run `swarm down` to clear what it left, then `swarm up`",
        )
    if record.owns_ray and not Path(record.ray_session_dir).is_dir():  # Ray would abort the process over it
        raise SwarmUnavailable(
            f"the files of its Ray, {record.ray_session_dir}, were removed under the swarm recorded in {home}",
            "Run `swarm down`, then `swarm up`",
        )
    return record.address, record.namespace


def _as_float(value: Any) -> Any:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
