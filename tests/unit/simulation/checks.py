"""What must hold of a history (notes/reliability.md, 3.4), judged by what the server stored, not by who claimed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from scheduler.core.firing import fire_time
from scheduler.core.lifecycle import FOLLOWERS, TERMINAL
from scheduler.core.model.execution import HISTORY_MAX, Execution, Kind, State
from scheduler.core.model.schedule import After
from scheduler.wire.alerts import finished_id
from scheduler.wire.ids import execution_id, parse_execution_id
from tests.unit.simulation.history import History
from tests.unit.simulation.site import Version

LATE = timedelta(seconds=10)  # the default of catch_up.after
MARGIN = timedelta(seconds=1)  # an edit holds for what is due more than a second later
KNOWN_SINCE = timedelta(seconds=5)  # how old may be what a repair knows of a schedule: the way there and back
LOOK_BACK = timedelta(seconds=30)  # how long ago a holder may have ended that a skip still saw: stalls included
NEVER = datetime.max.replace(tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def violations(history: History) -> list[str]:
    """Everything that is wrong; an empty list if nothing is."""
    found = history.unrest()
    checks = (
        _audited,
        _deadlines,
        _missing,
        _doubled,
        _phantoms,
        _illegal,
        _pairs,
        _early,
        _overlaps,
        _skips,
        _epochs,
        _marks,
        _clicks,
        _chains,
        _retries,
        _told,
    )
    for check in checks:
        found += list(check(history))
    if not history.evil and history.upheaval is None:
        found += _miscounted(history)
    return found


def violations_so_far(history: History) -> list[str]:
    """What must not even be for a moment, whatever is under way."""
    checks = (_doubled, _early, _illegal, _overlaps, _epochs, _marks)
    return [problem for check in checks for problem in check(history)]


def _missing(history: History) -> Iterator[str]:
    """Every occurrence that a version in force was armed for, in good time before its next edit, has a verdict."""
    journal, records = history.site.journal, history.site.journal.last()
    first_start = journal.marks[0].until if journal.marks else NEVER
    for schedule_id, versions in journal.versions.items():
        for version, following in pairwise(versions):
            for nominal in _nominals(version, max(version.at, first_start), following.at):
                assert version.definition is not None
                assert version.trigger is not None
                fires_at = fire_time(version.definition.schedule, version.trigger, nominal)
                marks = (m.at for m in journal.marks if m.applied >= version.revision and m.until >= nominal)
                armed_at = next(marks, NEVER - MARGIN)
                is_due = max(armed_at, fires_at) + MARGIN < following.at
                key = execution_id(schedule_id, nominal)
                if is_due and key not in records and not journal.told_of(schedule_id, nominal):
                    yield f"{key} has no verdict; armed {armed_at}, edited {following.at}"


def _audited(history: History) -> Iterator[str]:
    """Every nominal time of every schedule has a verdict, and the sum is 100 %."""
    for schedule_id, audit in history.audits.items():
        if "code" in audit:
            yield f"the audit of {schedule_id} failed: {audit}"
            continue
        if sum(audit["verdicts"].values()) + audit["unexplained"] != audit["expected"]:
            yield f"the audit of {schedule_id} does not add up: {audit}"
        for each in audit["occurrences"]:
            if each["verdict"] in ("unexplained", "pending", "claimed", "waiting"):
                versions = _brief(history.site.journal.versions[schedule_id])
                yield f"{schedule_id} at {each['nominal_at']} is {each['verdict']} ({each['reason']}); {versions}"


def _nominals(version: Version, after: datetime, until: datetime) -> Iterator[datetime]:
    """What a version wants, pauses left out."""
    if version.definition is None or version.trigger is None:
        return
    nominal = version.trigger.next_after(after)
    while nominal is not None and nominal < until:
        if not version.definition.schedule.is_paused_at(nominal):
            yield nominal
        nominal = version.trigger.next_after(nominal)


def _doubled(history: History) -> Iterator[str]:
    """At most one task per execution and drive, ever."""
    for key, times in history.site.journal.pairs.items():
        if len(times) > 1:
            yield f"{key} was queued {len(times)} times: {times}"


def _phantoms(history: History) -> Iterator[str]:
    """What fired was wanted by a version in force between its nominal time and its record; what was closed as paused
    or superseded was not, by one of them."""
    for each in history.site.journal.last().values():
        first = history.site.journal.records[each.id][0][1]
        decided = first.claimed_at or first.finished_at or first.fire_at
        if each.kind is not Kind.AUTO:
            continue
        in_force = list(_in_force(history, each, decided))
        wanted = [_wants(version, each) for version in in_force]
        if each.queued_at is not None and not any(wanted):
            yield f"{each.id} fired at {decided}, and no version in force wanted it: {_brief(in_force)}"
        if each.state is State.SUPERSEDED and any(_delay(version) for version in in_force):
            continue  # a chain wants one nominal time at a time: see `_chains`
        if each.state is State.SUPERSEDED and len(in_force) > 1 and decided - each.fire_at > LATE:
            continue  # an edit drops what was late before it
        if each.state in (State.PAUSED, State.SUPERSEDED) and all(wanted):
            yield f"{each.id} is {each.state}, and every version in force wanted it: {_brief(in_force)}"


def _in_force(history: History, each: Execution, decided: datetime) -> Iterator[Version]:
    versions = history.site.journal.versions.get(each.schedule, [])
    since = min(each.nominal_at, decided)
    for version, end in zip(versions, [*(v.at for v in versions[1:]), NEVER], strict=True):
        if version.at <= decided and end >= since:
            yield version


def _wants(version: Version, each: Execution) -> bool:
    if version.definition is None or version.trigger is None:
        return False
    return version.trigger.yields(each.nominal_at) and not version.definition.schedule.is_paused_at(each.nominal_at)


def _brief(versions: list[Version]) -> list[str]:
    return [f"{v.revision} at {v.at:%X.%f}: {v.definition and v.definition.schedule.trigger}" for v in versions]


def _illegal(history: History) -> Iterator[str]:
    """Every step of every record is in the table, its past stays, and an end is final."""
    for key, revisions in history.site.journal.records.items():
        first = revisions[0][1].state
        if first is not State.CLAIMED and first not in TERMINAL:
            yield f"{key} begins as {first}"
        for (_, before), (_, after) in pairwise(revisions):
            length = len(before.history)
            if before.state in TERMINAL and after.drive != before.drive + 1:
                yield f"{key} went on after its end: {before.state} -> {after.state}"
            if after.history[:length] != before.history and length < HISTORY_MAX - 1:
                yield f"{key} forgot its history: {before.history} -> {after.history}"
            for state, following in pairwise([before.state, *(entry.state for entry in after.history[length:])]):
                is_resumed = state is following and state not in TERMINAL  # taken up again, or asked to end
                if following not in FOLLOWERS.get(state, frozenset()) and not is_resumed:
                    yield f"{key}: {state} -> {following}"


def _pairs(history: History) -> Iterator[str]:
    """A task for exactly those records that say so."""
    pairs, records = {key for key, _ in history.site.journal.pairs}, history.site.journal.last()
    for key, each in records.items():
        if (each.queued_at is not None) != (key in pairs):
            yield f"{key}: queued_at {each.queued_at}, {'a' if key in pairs else 'no'} task; {each.state} {each.reason}"
    for key in sorted(pairs - records.keys()):
        yield f"{key} has a task and no record"


def _early(history: History) -> Iterator[str]:
    """Nothing before its fire time: here all clocks agree."""
    records = history.site.journal.last()
    for (key, _), times in history.site.journal.pairs.items():
        each = records.get(key)
        if each is not None and times[0] < each.fire_at - MILLISECOND:
            yield f"{key} was queued at {times[0]}, its fire time is {each.fire_at}"


def _overlaps(history: History) -> Iterator[str]:
    """Never more at once than the policy lets: from task to terminal record, as the server stored both."""
    for schedule_id in history.client.schedules:
        limit = history.client.limit_of(schedule_id)
        changes: list[tuple[datetime, int, str]] = []
        for key, revisions in history.site.journal.records.items():
            if parse_execution_id(key).schedule_id != schedule_id:
                continue
            for drive in range(revisions[-1][1].drive + 1):
                times = history.site.journal.pairs.get((key, drive))
                if times:
                    changes += [(times[0], 1, key), (_end_of(revisions, drive), -1, key)]
        running = 0
        for at, change, key in sorted(changes):
            running += change
            if limit is not None and running > limit:
                yield f"{key} makes {running} runs of {schedule_id} at {at}, its limit is {limit}"


def _end_of(revisions: list[tuple[datetime, Execution]], drive: int = 0) -> datetime:
    return next((at for at, each in revisions if each.state in TERMINAL and each.drive == drive), NEVER)


def _was_open(revisions: list[tuple[datetime, Execution]], at: datetime) -> bool:
    """Whether one of its drives was under way then, or over a moment ago."""
    begins = {each.drive: since for since, each in reversed(revisions)}
    return any(since <= at <= _end_of(revisions, drive) + LOOK_BACK for drive, since in begins.items())


def _skips(history: History) -> Iterator[str]:
    """Skipped only because of others that ran, or had run a moment before. What was claimed of a schedule that is gone
    runs one by one: nobody knows its policy any more."""
    journal, records = history.site.journal, history.site.journal.last()
    for key, each in records.items():
        if each.state is not State.SKIPPED or each.reason == "queue_full":
            continue
        if each.reason == "superseded_in_buffer":
            if not any(other > key for other, found in records.items() if found.schedule == each.schedule):
                yield f"{key} was superseded by nothing"
            continue
        assert each.finished_at is not None
        is_gone = _was_gone(history, each.schedule, each.finished_at)
        limit = 1 if is_gone else history.client.limit_of(each.schedule)
        others = [
            other
            for other, revisions in journal.records.items()
            if other != key
            and records[other].schedule == each.schedule
            and records[other].verdict != State.SKIPPED
            and revisions[0][1].state is State.CLAIMED
            and _was_open(revisions, each.finished_at)
        ]
        if each.reason == "buffer_full" and limit is not None:
            limit += 1
        if limit is None or len(others) < limit:
            yield f"{key} was skipped ({each.reason}) because of {others}"


def _was_gone(history: History, schedule_id: str, until: datetime) -> bool:
    """Whether it was deleted or invalid when somebody looked, or a moment before: he may have known it from then."""
    versions = history.site.journal.versions.get(schedule_id, [])
    ends = [*(each.at for each in versions[1:]), NEVER]
    gone = (each.definition is None and each.at < until and end > until - KNOWN_SINCE
            for each, end in zip(versions, ends, strict=True))  # fmt: skip
    return not versions or versions[0].at >= until or any(gone)


def _epochs(history: History) -> Iterator[str]:
    """Epochs ascend together with the leases they were taken under, and each arm was written in the one in force."""
    epochs = history.site.journal.epochs
    for (seq, lease_rev), (next_seq, next_rev) in pairwise(epochs):
        if next_seq <= seq or next_rev < lease_rev:
            yield f"epoch {next_seq} of lease {next_rev} came after {seq} of {lease_rev}"
    for seq, epoch in history.site.journal.arms:
        in_force = max((each for each, _ in epochs if each < seq), default=0)
        if epoch != in_force:
            yield f"the arm at {seq} is of epoch {epoch}, in force was {in_force}"


def _marks(history: History) -> Iterator[str]:
    """The watermark never moves back: what was planned and applied stays so."""
    for before, after in pairwise(history.site.journal.marks):
        if after.until < before.until or after.applied < before.applied:
            yield f"the watermark moved back: {before} -> {after}"


def _deadlines(history: History) -> Iterator[str]:
    """Expired is only what is past its deadline; with a start deadline alone only what nobody had started; and nothing
    is still under way long after its own."""
    for key, each in history.site.journal.last().items():
        if each.finished_at is None:
            continue
        if each.state is State.EXPIRED:
            by = each.start_by if each.reason == "start_deadline" else each.end_by
            if by is None or each.finished_at < by:
                yield f"{key} expired ({each.reason}) at {each.finished_at}, before {by}"
            if each.reason == "start_deadline" and each.started_at is not None:
                yield f"{key} missed its start deadline, and was started at {each.started_at}"
        is_regretted = history.regret is not None and key in history.regret.cancelled and each.reason == "requested"
        if each.state is State.CANCELLED and not is_regretted and each.reason not in ("deleted", "invalid", "overlap"):
            yield f"{key} was cancelled ({each.reason})"


def _clicks(history: History) -> Iterator[str]:
    """Whoever asked for a run and got an answer got that one run, however often he had to ask."""
    records = history.site.journal.last()
    for nonce, answers in history.client.answers.items():
        if len(set(answers)) > 1:
            yield f"nonce {nonce} was answered with {answers}"
        for each in answers:
            if each not in records:
                yield f"{each} was told to nonce {nonce}, and has no record"
    ids = Counter(key.rpartition("-m")[2] for key, each in records.items() if each.kind is Kind.MANUAL)
    yield from (f"nonce {nonce} made {count} executions" for nonce, count in ids.items() if count > 1)


def _chains(history: History) -> Iterator[str]:
    """No two occurrences of a chain closer than its delay, from the end of the one; in peace every chain goes on."""
    yield from (f"{each} stands still" for each in history.stopped)
    by_schedule: dict[str, list[Execution]] = {}
    for each in history.site.journal.last().values():
        if each.kind is Kind.AUTO and each.state not in (State.SUPERSEDED, State.PAUSED):
            by_schedule.setdefault(each.schedule, []).append(each)
    for schedule_id, executions in by_schedule.items():
        for before, after in pairwise(sorted(executions, key=lambda each: each.nominal_at)):
            decided = max(at for each in (before, after) for at in (each.nominal_at, each.claimed_at) if at is not None)
            delay = _delay_between(history, schedule_id, before.nominal_at, decided)
            ended_at = _first_end(history, before.id)
            if delay is not None and after.nominal_at < ended_at + delay:
                yield f"{after.id} follows {before.id}, which ended {ended_at}, within {delay}"


def _first_end(history: History, key: str) -> datetime:
    """When its first drive ended, as its record says."""
    ends = (each.finished_at for _, each in history.site.journal.records[key] if each.drive == 0 and each.finished_at)
    return next(ends)


def _retries(history: History) -> Iterator[str]:
    """A drive for each end that somebody wanted again, however often he asked; and the verdict stays."""
    asked = {} if history.regret is None else history.regret.asked
    for key, revisions in history.site.journal.records.items():
        for (_, before), (at, after) in pairwise(revisions):
            if after.drive != before.drive and (key, before.drive) not in asked:
                yield f"{key} went into drive {after.drive} at {at}, and nobody had asked"
            if after.drive != before.drive and after.attempts_before < before.attempt:
                yield f"{key} counts attempts anew in drive {after.drive}"
            if after.verdict != before.verdict and before.state in TERMINAL:
                yield f"{key} was {before.verdict}, and is {after.verdict}"
    for (key, drive), answers in asked.items():
        found = history.site.journal.last()[key]
        for each in answers:
            if "id" in each and found.drive <= drive:
                yield f"{key} was told to be retried after drive {drive}, and is in {found.drive}"


def _told(history: History) -> Iterator[str]:
    """One event for each end, whoever had to tell it, and however often: the same id, the same state; and no other."""
    told = dict(history.site.journal.told_ends)
    for each in history.site.journal.ends():
        found = set(told.pop((each.id, each.drive), []))
        if len(found) != 1 or found != {(finished_id(each.id, each.drive), each.state.value)}:
            yield f"{each.id} ended {each.state} in drive {each.drive}, and was told as {sorted(found)}"
    yield from (f"{key} was told as {told[key]}, and never ended" for key in told)


def _delay_between(history: History, schedule_id: str, since: datetime, until: datetime) -> timedelta | None:
    """The shortest delay in force in between; None if it was not one chain all the time."""
    versions = history.site.journal.versions[schedule_id]
    ends = [*(each.at for each in versions[1:]), NEVER]
    found = [
        each for each, end in zip(versions, ends, strict=True) if each.at <= until + MARGIN and end >= since - MARGIN
    ]
    if any(each.deleted or (each.definition is not None and _delay(each) is None) for each in found):
        return None
    return min((delay for each in found if (delay := _delay(each)) is not None), default=None)


def _delay(version: Version) -> timedelta | None:
    trigger = None if version.definition is None else version.definition.schedule.trigger
    return trigger.delay if isinstance(trigger, After) else None


def _miscounted(history: History) -> list[str]:
    """Without kills and faults the counters add up exactly."""
    records = history.site.journal.last().values()
    expected = Counter("fired" if each.queued_at else each.state.value for each in records)
    for told in (each for ranges in history.site.journal.ranges.values() for each in ranges):
        if told.verdict == State.MISSED.value:  # a one-shot may be put so late, and the first leader come so much later
            expected["missed"] += told.count
    ended = Counter(each.state.value for each in history.site.journal.ends() if each.queue)
    calls = [call for replica in history.site.replicas for call in replica.telemetry.calls]
    counted = Counter(call.values["verdict"] for call in calls if call.name == "verdict")
    finished = Counter(call.values["state"] for call in calls if call.name == "finished")
    lateness = sum(call.name == "lateness" for call in calls)
    found = [] if counted == expected else [f"verdicts counted {counted}, on record {expected}"]
    found += [] if finished == ended else [f"ends counted {finished}, on record {ended}"]
    return found + ([] if lateness == expected["fired"] else [f"lateness told {lateness} times of {expected['fired']}"])
