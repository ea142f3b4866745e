"""What the gate is told, by whom, and how it holds for the very next order.

What permits less takes effect and is then written; what permits more is on disk before it takes effect, with the
decision of the gate's committee where it has one. One lock orders all of it. The loop that judges orders waits for none
of this: it reads the limits through a page, whole or not at all, and the kill switch's words before every order.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate import mandate, switch
from actors.trading.gate.book import Account, Instrument
from actors.trading.gate.entries import limits_page
from actors.trading.gate.history import (
    CLOSE,
    COMMITTEE,
    EPOCH,
    ITSELF,
    MARKS,
    START,
    History,
    newest_evidence,
    write_checkpoint,
    write_control,
)
from actors.trading.gate.mandate import Shown, Trust, finite, mode_of
from actors.trading.gate.numbers import place_in
from actors.trading.gate.settings import LIMITS, GateSettings, loosens, with_limits
from cluster.durable import sync_names
from cluster.errors import InvalidInput, InvalidRequest
from cluster.lanes.layout import LINE
from cluster.lanes.memory import SharedWords
from cluster.lanes.page import write
from cluster.lanes.peer import started
from consensus import decisions
from consensus.simplex.types import packed
from hive.messages.fast import boot_id
from hive.messages.gate import Action, Instruction, Warrant
from hive.messages.orders import Mode

MOST_SYMBOLS, MOST_ACCOUNTS = 4096, 256  # what the page of limits has room for


class Control:
    """The gate's instructions, from those of its past on. It owns the words that others see, and from now on the
    database and the history; positions in it are those of the start.

    Parameters
    ----------
    database : sqlite3.Connection
        Of the gate's journal; this alone writes its instructions and checkpoints from now on.
    history : History
        As it is before this start.
    directory : Path
        Where kills are on file.
    committee : Path, optional
        As :class:`~actors.trading.gate.gate.Gate` has it.
    holdings, add : callable
        Positions and reservations as they stand in the compiled book, and how what is found to differ gets there.
    """

    _trust: Trust | None

    def __init__(
        self,
        database: sqlite3.Connection,
        history: History,
        *,
        settings: GateSettings,
        instruments: Sequence[Instrument],
        accounts: Sequence[Account],
        directory: Path,
        committee: Path | None,
        holdings: Callable[[], History],
        add: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.lock = threading.RLock()
        """Held by whoever changes what is permitted, in which instruments, or where positions stand on disk."""
        self.instruments = tuple(instruments)
        self.settings = replace(settings, **{k: v for k, v in history.limits.items() if k in LIMITS})
        """With the limits that hold now."""
        self._settings, self._directory = settings, directory
        self._accounts, self._names = tuple(accounts), tuple(a.name for a in accounts)
        self._database, self._history = database, history
        self._committee, self._trust = committee, None
        self._holdings, self._add = holdings, add
        unclean = history.running
        self.start = history.sequence + (unclean["journal_size"] if unclean is not None else 0)
        """Sequence number that verdicts follow; beyond whatever an end without order may have lost."""
        history.apply(
            START,
            {
                "boot": boot_id(),
                "journal_size": settings.journal_size,
                "sequence": self.start,
                "clean": unclean is None,
                "gate": history.identity,
            },
        )
        size = kernels.LIMITS_AT + LINE + kernels.limits_size(MOST_ACCOUNTS, MOST_SYMBOLS)
        self._memory = SharedWords.create("riskswarm-gate", size)
        self.words = self._memory.words
        """Those of the kill switch, then the page of limits."""
        self._restore_kills()
        self._post()

    def begin(self) -> None:
        """Write down that a gate begins: before its first order, after all that may fail.

        Raises
        ------
        JournalUnavailable
            It is not on disk.
        """
        with suppress(InvalidInput):  # what permits more will say it; what permits less need not wait for a mended file
            self._meet()
        assert self._history.running is not None
        write_control(self._database, START, self._history.running, ITSELF)

    def end(self, holdings: History) -> None:
        """Write down that the gate ends in order, and where positions stand.

        Raises
        ------
        JournalUnavailable
            It is not on disk.
        """
        with self.lock:
            self._note_kills(ITSELF)
            write_checkpoint(self._database, holdings.sequence, holdings.plain())
            write_control(self._database, CLOSE, {}, ITSELF)

    def close(self) -> None:
        """Let go of database and memory, and tell those who wait for it."""
        self._database.close()
        self.words[switch.RETIRED] = 1
        self._memory.close()

    def checkpoint(self) -> int:
        """Write down where positions stand; the newest sequence number in it.

        Raises
        ------
        JournalUnavailable
            It is not on disk.
        """
        with self.lock:
            holdings = self._holdings()
            write_checkpoint(self._database, holdings.sequence, holdings.plain())
            return holdings.sequence

    def admit(self, instruments: Sequence[Instrument]) -> None:
        """Other instruments, those known so far among them in their places; whoever calls holds the lock."""
        self.instruments = tuple(instruments)
        self._post()

    def told(self) -> dict[str, Any]:
        """What a person must know of it, as fields of :class:`~hive.messages.gate.GateStatus`."""
        found, settings = self._history, self.settings
        return {
            "mode": self.mode.name,
            "unreconciled": found.unreconciled,
            "killed": self.killed,
            "kills": self.kills,
            "halted": tuple(sorted(found.halted)),
            "restricted": tuple(sorted(found.restricted)),
            "disabled": tuple(sorted(found.disabled)),
            "limits": {name: getattr(settings, name) for name in LIMITS},
            "changed_limits": tuple(n for n in LIMITS if getattr(settings, n) != getattr(self._settings, n)),
            "committee": "" if self._trust is None else self._trust.first.chain.hex(),
            "epoch": 0 if self._trust is None else self._trust.newest.epoch,
        }

    @property
    def address(self) -> switch.SwitchAddress:
        """Where a :class:`~actors.trading.gate.switch.KillSwitch` finds the gate."""
        return switch.SwitchAddress(os.getpid(), started(os.getpid()), self._memory.descriptor)

    @property
    def killed(self) -> bool:
        """Whether the gate is closed."""
        return switch.closed(self.words)

    @property
    def kills(self) -> int:
        """Times that the switch was thrown."""
        return int(self.words[switch.KILLS])

    @property
    def unwritten_kills(self) -> bool:
        """Whether somebody has thrown the switch by its words alone, and no row says so yet."""
        return self.kills > self._history.kills

    @property
    def mode(self) -> Mode:
        """What is permitted: reductions at most while nobody has confirmed the positions."""
        return max(self._history.mode, Mode.SAFE_MODE if self._history.unreconciled else Mode.FULL_PERFORMANCE)

    def obey(self, instruction: Instruction) -> Any:
        """Carry out an instruction: what permits less takes effect and is then written, what permits more the reverse.

        Raises
        ------
        Unwarranted, InvalidRequest, InvalidSettings
            It permits more and lacks an operator or a reason, or its body is not what its action needs.
        Unmandated
            It permits more, and no decision of the gate's committee came with it that says so.
        JournalUnavailable
            It could not be brought to disk. What permits less holds nevertheless, while this gate lives.
        """
        body, by = instruction.body, instruction.by
        if instruction.action in MARKS:
            return self.mark(instruction.action, str(body.get("name")), by)
        if instruction.action is Action.KILL:
            return self.kill(by)
        if instruction.action is Action.RELEASE_KILL:
            return self.release_kill(int(body.get("kills", -1)), by)
        if instruction.action is Action.MODE:
            return self.set_mode(mode_of(body.get("mode")), by)
        if instruction.action is Action.LIMITS:
            return self.set_limits(body, by)
        return self.reconcile(body.get("positions", {}), body.get("cash", {}), by)

    def kill(self, by: Warrant = ITSELF) -> int:
        """Close the gate for the very next order; latched. How many kills there were, this included."""
        thrown = switch.throw(self.words)
        with self.lock:
            self._note_kills(by)
        return thrown

    def release_kill(self, kills: int, by: Warrant) -> bool:
        """Whether the gate is open again, for a person who has seen so many kills; a later one keeps it closed.

        Raises
        ------
        InvalidRequest
            More than there were, or fewer than were released before.
        """
        shown = self._shown(by)
        by.loosen()
        written = switch.written_kills(self._directory)  # before the count is looked at: later ones stay
        with self.lock:
            words = self.words
            if not int(words[switch.RELEASED]) <= kills <= self.kills:
                raise InvalidRequest(f"{kills} kills to release; there were {self.kills}", "Look at the gate's `kills`")
            last = kills == self.kills
            self._note_kills(ITSELF)
            body = {"kills": kills}
            self._permit(Action.RELEASE_KILL, body, by, shown)
            if last and written:
                for path in written:
                    path.unlink(missing_ok=True)
                sync_names(self._directory / switch.KILLED)
            self._history.apply(Action.RELEASE_KILL, body)
            words[switch.RELEASED] = kills
            return not self.killed

    def set_limits(self, changes: Mapping[str, float], by: Warrant) -> None:
        """Other limits, for the very next order; none at all takes them back to the settings.

        Raises
        ------
        InvalidSettings
            A name is no limit, or a value is out of its range.
        """
        shown = self._shown(by)
        with self.lock:
            overrides = {**self._history.limits, **changes} if changes else {}
            after = with_limits(self._settings, overrides)
            self._carry_out(Action.LIMITS, dict(changes), by, shown, loosens=loosens(self.settings, after))

    def set_mode(self, mode: Mode, by: Warrant) -> None:
        """Permit everything, reductions only, or nothing."""
        shown = self._shown(by)
        with self.lock:
            self._carry_out(Action.MODE, {"mode": mode}, by, shown, loosens=mode < self._history.mode)

    def mark(self, action: Action, name: str, by: Warrant = ITSELF) -> None:
        """Put a symbol or an account on a list, or take it off: what the actions of ``history.MARKS`` do.

        Raises
        ------
        InvalidRequest
            The gate does not know it.
        """
        place_in(self._names if action in (Action.DISABLE, Action.ENABLE) else self._symbols, name)
        shown = self._shown(by)
        with self.lock:
            self._carry_out(action, {"name": name}, by, shown, loosens=not MARKS[action][1])

    def reconcile(
        self, positions: Mapping[str, Mapping[str, float]], cash: Mapping[str, float], by: Warrant
    ) -> dict[str, Any]:
        """Positions by account and symbol, and cash by account, as they truly are; what is not named is confirmed.

        Reservations stay: release those that the market does not know. Returns what differed, as it was added.

        Raises
        ------
        InvalidRequest
            An account or symbol is unknown, or a number is not finite.
        """
        shown = self._shown(by)
        by.loosen()
        for account, units in positions.items():
            place_in(self._names, account)
            for symbol, held in units.items():
                place_in(self._symbols, symbol)
                finite(held)
        for account, money in cash.items():
            place_in(self._names, account)
            finite(money)
        with self.lock:
            now = self._holdings()
            body: dict[str, Any] = {
                "cash": {account: money - now.cash[account] for account, money in cash.items()},
                "units": {
                    account: {symbol: held - now.units[account].get(symbol, 0.0) for symbol, held in units.items()}
                    for account, units in positions.items()
                },
            }
            self._permit(Action.RECONCILE, body, by, shown, said={"positions": positions, "cash": cash})
            self._history.apply(Action.RECONCILE, body)
            self._add(body)
            self._post()
        return body

    def note_kills(self) -> None:
        """Write down what was thrown by the words alone, with who says so on file.

        Raises
        ------
        JournalUnavailable
            It is not on disk.
        """
        with self.lock:
            self._note_kills(switch.last_kill(self._directory) or ITSELF)

    def look_for_committee(self) -> None:
        """Meet the committee where its file has come.

        Raises
        ------
        InvalidInput
            Nobody can be read from it.
        """
        if self._trust is None and self._committee is not None and self._committee.exists():
            with self.lock:
                self._meet()

    @property
    def trust(self) -> Trust | None:
        """What the gate knows of its committee; None while it has met none."""
        return self._trust

    def learn(self, ends: Sequence[bytes]) -> None:
        """Know of later epochs of the committee, by the ends of the newest that is known and of those after it.

        From then on no decision that knows nothing of them is obeyed. That only ever permits less, and needs nobody's
        leave; it is on disk before it holds, so that no start forgets it.

        Raises
        ------
        BadCertificate
            One of them ends nothing.
        JournalUnavailable
            It is not on disk; what was known before holds.
        """
        before = self._trust
        if before is None or not ends:
            return
        newest = decisions.following([before.newest], ends)[-1]  # before anything is held that an instruction needs
        with self.lock:
            if self._trust is None or self._trust.newest != before.newest:
                return  # a decision was faster; whoever asked for these will ask for those after it
            body = mandate.epoch_facts(newest)
            write_control(self._database, EPOCH, body, ITSELF, evidence=packed(list(ends)))
            self._history.apply(EPOCH, body)
            self._trust = Trust(before.first, newest)

    def _carry_out(
        self, action: Action, body: dict[str, Any], by: Warrant, shown: Shown | None, *, loosens: bool
    ) -> None:
        """What permits more is durable before it holds; what permits less holds before it is durable."""
        if loosens:
            by.loosen()
            self._permit(action, body, by, shown)
        self._history.apply(action, body)
        self.settings = replace(self._settings, **self._history.limits)
        self._post()
        if not loosens:
            write_control(self._database, action, body, by)

    def _shown(self, by: Warrant) -> Shown | None:
        """What came with a warrant; proved before anything is held that what tightens might wait for."""
        return None if self._trust is None else mandate.examined(self._trust.first, by)

    def _permit(
        self,
        action: Action,
        body: Mapping[str, Any],
        by: Warrant,
        shown: Shown | None,
        *,
        said: Mapping[str, Any] | None = None,
    ) -> None:
        """Bring what permits more to disk, with the decision that it needs where the gate has a committee.

        ``said`` is what was instructed, where another thing is written.
        """
        if self._trust is None and not self._meet():
            write_control(self._database, action, body, by)
            return
        assert self._trust is not None
        shown = shown or mandate.examined(self._trust.first, by)  # the committee has only just been met
        about = body if said is None else said
        decision, trust = mandate.required(self._trust, shown, self._history.identity, action, about, time.time_ns())
        write_control(self._database, action, body, by, decision)
        self._trust = trust

    def _meet(self) -> bool:
        """Whether there is a committee; the first one that is found is kept in the journal, and no other after it.

        Raises
        ------
        InvalidInput
            Its file cannot be read, or holds none: then nobody knows who may permit more, and nobody may.
        """
        if not self._history.committee:
            if self._committee is None:
                return False
            try:
                text = self._committee.read_text()
            except FileNotFoundError:
                return False
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidInput(f"{self._committee} cannot be read ({error})", "Restore the file") from error
            decisions.committee_of(text, str(self._committee))
            body = {"text": text}
            write_control(self._database, COMMITTEE, body, ITSELF)
            self._history.apply(COMMITTEE, body)
        first = decisions.committee_of(self._history.committee, "the gate's journal")
        evidence = newest_evidence(self._database)
        newest = decisions.certified(first, evidence).known[-1] if evidence else first
        noted = first if self._history.epoch is None else mandate.epoch_of(first, self._history.epoch)
        self._trust = Trust(first, max(newest, noted, key=lambda known: known.epoch))
        return True

    def _note_kills(self, by: Warrant) -> None:
        if self.unwritten_kills:
            body = {"kills": self.kills}
            write_control(self._database, Action.KILL, body, by)
            self._history.apply(Action.KILL, body)

    def _restore_kills(self) -> None:
        words, found = self.words, self._history
        if found.kills == found.released and switch.written_kills(self._directory):
            body = {"kills": found.kills + 1}  # by file alone: no gate has seen it yet
            write_control(self._database, Action.KILL, body, switch.last_kill(self._directory) or ITSELF)
            found.apply(Action.KILL, body)
        words[switch.KILLS], words[switch.RELEASED] = found.kills, found.released

    def _post(self) -> None:
        page = limits_page(self.settings, self.mode, self._history, self.instruments, self._accounts)
        write(self.words, kernels.LIMITS_AT, page.view(np.int64))

    @property
    def _symbols(self) -> tuple[str, ...]:
        return tuple(i.symbol for i in self.instruments)
