"""`schedctl apply | diff`: make schedules as files say.

Everything is read and checked before anything is written. A write expects the revision that it was decided from, so
that what somebody else changed meanwhile is never overwritten unseen; whatever was not done can be done by running the
command again. Pruning is for those that a selector (or `--all`) names, comes last, asks, and exports first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from cli.bulk import carry_out, tell_failures
from cli.checking import calendars_for, check, placed
from cli.connecting import Connection, connected
from cli.files import Entry, Findings, Found, gather, keep
from cli.output import Format, clean, must_agree, say, shown_as, warn
from cli.planned import Foresight, Planned, Report, counted, print_report, report_of, show
from cli.selecting import Selectors, joined
from cli.stored import fetch_all, fetch_some, stored_of
from scheduler.client import Client
from scheduler.core.errors import Conflict, InvalidArgument, NotFound, ScheddError
from scheduler.system.clock import SystemClock
from scheduler.wire.applying import (
    OWNER_LABEL,
    Change,
    Kind,
    Stored,
    change_of,
    changes_of,
    is_only_state,
    owner_of,
    pruned,
)
from scheduler.wire.selectors import Selector, parse_selector

SIZE_MAX = 64_000_000  # of all files together
PROBLEMS_SHOWN = 20
WARNINGS_SHOWN = 20
ROUNDS_MAX = 5  # of somebody pausing and resuming what we write

Files = Annotated[
    list[Path],
    typer.Option(
        "-f", "--file", metavar="FILE|DIR", help="YAML or JSON; - is stdin; may be repeated.", show_default=False
    ),
]
ExitCode = Annotated[bool, typer.Option("--exit-code", metavar="", help="Exit with 1 if something differs.")]


class Pruning(NamedTuple):
    """Which schedules may be deleted if the files do not name them; `selector` None: any. `export` None: a name with
    the time in it."""

    selector: str | None
    export: Path | None


@connected
@shown_as("json")
async def apply(
    connection: Connection,
    shown: Format,
    files: Files,
    selector: Selectors = None,
    prune: Annotated[
        bool, typer.Option("--prune", metavar="", help="Delete those that -l (or --all) names and no file does.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", metavar="", help="With --prune: among all schedules.")] = False,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Where pruned definitions are kept; must not exist.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Show what would be done, and stop.")] = False,
    exit_code: ExitCode = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask before pruning.")] = False,
) -> None:
    """Make schedules as files say: create what is missing, change what differs, leave the rest alone."""
    if prune and dry_run and not (every or selector):
        warn("note: to prune for real say among which, -l team=crm or --all; this shows what --all would delete")
        every = True
    pruning = _pruning(prune, every, selector, export)
    findings = _gathered(files)
    if exit_code and not dry_run:
        raise InvalidArgument("--exit-code is for --dry-run", field="exit_code")
    async with connection.client() as client:
        planned = await plan(client, findings.found, pruning)
        if dry_run:
            _show_plan(planned, shown)
            raise typer.Exit(int(exit_code and any(each.change.is_write for each in planned)))
        await _apply(client, planned, pruning, shown, yes=yes)


@connected
@shown_as("json")
async def diff(connection: Connection, shown: Format, files: Files, exit_code: ExitCode = False) -> None:
    """Show how schedules differ from what files say, and which fires that gains and loses. Writes nothing."""
    findings = _gathered(files)
    async with connection.client() as client:
        planned = await plan(client, findings.found, None)
    _show_plan(planned, shown)
    raise typer.Exit(int(exit_code and any(each.change.is_write for each in planned)))


def _pruning(prune: bool, every: bool, selectors: list[str] | None, export: Path | None) -> Pruning | None:
    if not prune:
        for given, flag in ((every, "--all"), (selectors, "-l"), (export, "--export")):
            if given:
                raise InvalidArgument(f"{flag} is for --prune: it says what may be deleted", field="prune")
        return None
    if every == bool(selectors):
        raise InvalidArgument(
            "--prune deletes what no file names: say among which, with -l team=crm, or --all", field="prune"
        )
    if not selectors:
        return Pruning(None, export)
    return Pruning(joined(selectors), export)


def _gathered(files: Sequence[Path]) -> Findings:
    """What the files define. Raises InvalidArgument, after each problem has been told, if there is any."""
    findings = gather(files, size_max=SIZE_MAX)
    refuse(findings.problems, len(findings.found) + len(findings.problems))
    if not findings.found:
        raise InvalidArgument(f"{', '.join(map(str, files))}: no definition in it", field="file")
    return findings


def refuse(problems: Sequence[InvalidArgument], total: int) -> None:
    """Raises the only problem, or tells the first of many and raises InvalidArgument. Nothing if there is none."""
    if len(problems) == 1:
        only = problems[0]
        raise type(only)(f"{only.sentence} (nothing was applied)", field=only.field)
    for problem in problems[:PROBLEMS_SHOWN]:
        warn(clean(problem.sentence))
    if problems:
        more = f" (the first {PROBLEMS_SHOWN} are shown)" if len(problems) > PROBLEMS_SHOWN else ""
        raise InvalidArgument(f"{len(problems):,} of {total:,} definitions are wrong{more}; nothing was applied")


async def apply_found(client: Client, found: Sequence[Found], shown: Format) -> None:
    """Apply definitions that are already read, without pruning. Raises ScheddError."""
    await _apply(client, await plan(client, found, None), None, shown, yes=True)


# --- planning


async def plan(client: Client, found: Sequence[Found], pruning: Pruning | None) -> list[Planned]:
    """What applying comes to, checked: every change in the order of the files, then what is pruned or kept.

    Raises InvalidArgument if a definition is wrong, ScheddError if the daemon cannot be asked.
    """
    wanted = {each.entry.id: each.entry.schedule for each in found}
    stored = await fetch_some(client, list(wanted))
    changes = changes_of(wanted, stored)
    calendar_of = await calendars_for(client, [*wanted.values(), *(each.before or {} for each in changes)])
    writes = {change.id for change in changes if change.is_write}
    problems = await check(client, [each for each in found if each.entry.id in writes], calendar_of)
    selector = parse_selector(pruning.selector) if pruning is not None and pruning.selector else None
    refuse([*problems, *_unselected(found, selector)], len(found))
    if pruning is not None:
        prunable = await fetch_all(client, pruning.selector)
        owned_too = selector is not None and OWNER_LABEL in selector.names()
        changes += pruned(wanted, prunable, owned_too=owned_too)
    places = {each.entry.id: each.place() for each in found}
    foresight = Foresight(SystemClock().now(), calendar_of)
    _warn_of(changes)
    return [foresight.planned(change, places.get(change.id, "")) for change in changes]


def _unselected(found: Sequence[Found], selector: Selector | None) -> list[InvalidArgument]:
    """What a later prune would not know as its own."""
    problems = []
    for each in found:
        labels = each.entry.schedule.get("labels")
        if selector is not None and not selector.matches(labels if isinstance(labels, dict) else {}):
            told = "the selector of --prune does not match its labels, so that it could never be pruned again"
            problems.append(placed(each, InvalidArgument(told, field="labels")))
    return problems


def _warn_of(changes: Sequence[Change]) -> None:
    """What is probably not meant, and no reason to stop."""
    for change in changes:
        if change.kind is Kind.UNCHANGED and change.error is not None:
            warn(f"warning: {change.id} is invalid, in the file as it is stored: {clean(change.error)}")
        owner = owner_of(change.before or {}) if change.kind is Kind.CHANGED else None
        if owner is not None:
            warn(f"warning: {change.id} is declared by the code of worker {clean(owner)}, which may change it back")


def _show_plan(planned: Sequence[Planned], shown: Format) -> None:
    if shown.json:
        print_report(report_of(planned, dry_run=True, errors={}))
        return
    show(planned)
    kinds = [each.change.kind for each in planned]
    say(f"{'Would be: ' if any(each.change.is_write for each in planned) else ''}{counted(kinds)}")


# --- carrying out


async def _apply(
    client: Client, planned: Sequence[Planned], pruning: Pruning | None, shown: Format, *, yes: bool
) -> None:
    if not shown.json:
        show(planned)
    doomed = [each.change for each in planned if each.change.kind is Kind.PRUNED]
    if doomed:
        must_agree(f"Delete {len(doomed):,} {'schedule' if len(doomed) == 1 else 'schedules'}?", yes=yes)
    done = _Done(planned)
    try:
        await done.put_all(client)
        if doomed and pruning is not None and not done.failures:
            await done.prune(client, doomed, pruning.export)
    finally:
        done.tell(shown)
    done.raise_failures()


class _Done:
    """What has become of each change so far; told at the end, also when the end is Ctrl-C."""

    def __init__(self, planned: Sequence[Planned]) -> None:
        self._planned = planned
        self._kinds = {each.change.id: each.change.kind for each in planned if not each.change.is_write}
        self._writes = sum(each.change.is_write for each in planned)
        self._tried = 0
        self._export: Path | None = None
        self._warnings: list[str] = []
        self.failures: list[tuple[str, ScheddError]] = []

    async def put_all(self, client: Client) -> None:
        async def put(change: Change) -> Kind:
            return await self._put(client, change)

        changes = [each.change for each in self._planned if each.change.kind in {Kind.CREATED, Kind.CHANGED}]
        await self._each(changes, put)

    async def prune(self, client: Client, doomed: Sequence[Change], export: Path | None) -> None:
        async def delete(change: Change) -> Kind:
            with contextlib.suppress(NotFound):  # somebody else was faster, or our first try was
                await client.schedules.delete(change.id, expected_revision=change.revision)
            return Kind.PRUNED

        at = SystemClock().now()
        self._export = export or Path(f"pruned-{at:%Y%m%dT%H%M%S}Z.yaml")
        keep(self._export, [Entry(change.id, dict(change.before or {})) for change in doomed])
        await self._each(doomed, delete)

    async def _each(self, changes: Sequence[Change], how: Callable[[Change], Awaitable[Kind]]) -> None:
        async for change, outcome in carry_out(changes, how, title="Applying"):
            self._tried += 1
            if isinstance(outcome, ScheddError):
                self.failures.append((change.id, outcome))
            else:
                self._kinds[change.id] = outcome

    async def _put(self, client: Client, change: Change) -> Kind:
        """Write it if it is still as it was when it was decided about; a pause set meanwhile does not matter."""
        kind = change.kind
        for _ in range(ROUNDS_MAX):
            try:
                reply = await client.schedules.put(change.id, change.wanted or {}, expected_revision=change.revision)
            except Conflict as problem:
                again = await _decided_again(client, change)
                if again is None:
                    told = f"{problem.message}: somebody changed it meanwhile; apply again to see what it would do"
                    raise Conflict(told) from None
                if again.kind is Kind.UNCHANGED:
                    return Kind.UNCHANGED
                change = again
                continue
            self._warnings += [f"{change.id}: {warning}" for warning in reply.warnings]
            return kind
        raise Conflict("it keeps changing: apply again")

    def tell(self, shown: Format) -> None:
        for warning in self._warnings[:WARNINGS_SHOWN]:
            warn(f"warning: {clean(warning)}")
        if len(self._warnings) > WARNINGS_SHOWN:
            warn(f"and {len(self._warnings) - WARNINGS_SHOWN:,} more warnings")
        if shown.json:
            print_report(self._report())
            return
        untouched = self._writes - self._tried
        failed = f", {len(self.failures):,} failed" if self.failures else ""
        say(f"{counted(self._kinds.values())}{failed}{f', {untouched:,} not done' if untouched else ''}")
        if self._export is not None and self._export.exists():
            say(f"What was pruned is in {self._export}; `schedctl apply -f {self._export}` brings it back.")
        if untouched:
            warn("Not everything is done: run it again to go on.")

    def _report(self) -> Report:
        errors = {schedule_id: problem.message for schedule_id, problem in self.failures}
        for each in self._planned:
            if each.change.id not in self._kinds:
                errors.setdefault(each.change.id, "not tried")
        return report_of(
            self._planned, dry_run=False, errors=errors, export=str(self._export) if self._export else None
        )

    def raise_failures(self) -> None:
        tell_failures(self.failures, total=self._writes, tried=self._tried, what="not applied")


async def _decided_again(client: Client, change: Change) -> Change | None:
    """The change against what is stored now; None if that is something else than it was, a pause apart."""
    try:
        now = stored_of(await client.schedules.get(change.id))
    except NotFound:
        return None
    again = change_of(change.id, change.wanted or {}, now)
    if again.kind is Kind.UNCHANGED:
        return again
    before = Stored(change.revision, change.before)
    since = change_of(change.id, now.document or {}, before)
    return again if change.before is not None and is_only_state(since) else None
