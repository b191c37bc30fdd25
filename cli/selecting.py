"""Which schedules a command is about: ids, or a label selector, or all; and what they will do to them, all at once.

Ids that somebody typed are meant. What a selector or `--all` finds is shown, and nothing happens before `--yes` or a
yes on the terminal.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from msgspec import Struct

from cli.bulk import carry_out, tell_failures
from cli.options import Command, expand, option
from cli.output import Format, must_agree, print_json, say
from scheduler.client import Client, schedules_request
from scheduler.core.errors import InvalidArgument, ScheddError
from scheduler.wire import api
from scheduler.wire.ids import check_schedule_id
from scheduler.wire.selectors import join_selectors, parse_selector

SHOWN_MAX = 20
PAGE = 1000
T = TypeVar("T", bound=Struct)

Selectors = Annotated[
    list[str] | None,
    typer.Option("-l", "--selector", metavar="SELECTOR", help="Those with these labels: team=crm,env!=prod,!legacy."),
]


class Selection(Struct, frozen=True):
    """What was given: `ids`, or a `selector`, or `every` one."""

    ids: Sequence[str] = ()
    selector: str | None = None
    every: bool = False
    yes: bool = False
    dry_run: bool = False

    @property
    def is_bulk(self) -> bool:
        return not self.ids

    @property
    def text(self) -> str:
        return f"schedules with {self.selector}" if self.selector else "all schedules"


def joined(selectors: Sequence[str] | None) -> str | None:
    """One selector for all that were given; None if none was. Raises InvalidArgument."""
    if not selectors:
        return None
    for each in selectors:
        parse_selector(each)
    return join_selectors(selectors)


def by_selection(*, all_too: bool = True) -> Callable[[Command], Command]:
    """Give a command `ID...`, `-l`, `--all`, `--dry-run` and `--yes`; it gets them as `selection`, checked."""
    ids = Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Ids of schedules.", show_default=False)]
    labels = option("selector", list[str] | None, "-l", "--selector", metavar="SELECTOR",
                    text="Those with these labels: team=crm,env!=prod,tier in (a,b),!legacy.")  # fmt: skip
    parameters = [
        inspect.Parameter("schedule_ids", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ids),
        labels,
        option("every", bool, "--all", default=False, text="All schedules."),
        option("dry_run", bool, "--dry-run", default=False, text="Show which, and stop."),
        option("yes", bool, "--yes", "-y", default=False, text="Do not ask."),
    ]
    shown = parameters if all_too else [each for each in parameters if each.name != "every"]
    return lambda function: expand(function, "selection", shown, _collect)


def _collect(values: Mapping[str, Any]) -> Selection:
    ids = list(dict.fromkeys(check_schedule_id(schedule_id) for schedule_id in values["schedule_ids"] or ()))
    selector, every = joined(values["selector"]), values.get("every", False)
    if sum(map(bool, (ids, selector, every))) != 1:
        others = " or --all" if "every" in values else ""
        raise InvalidArgument(f"give the ID of a schedule, or several, or -l team=crm{others}", field="id")
    return Selection(ids, selector, every, values["yes"], values["dry_run"])


async def selected(client: Client, selection: Selection) -> list[api.ScheduleItem]:
    """The schedules that a selector or --all finds, by id."""
    pages = client.calls.pages("schedule.list", schedules_request(selector=selection.selector, limit=PAGE))
    return [api.decode_reply(bytes(raw), api.ScheduleItem) async for raw in pages]


class Verb(Struct, frozen=True):
    """What is done to each: `word` "delete", `done` "deleted"; `suits` leaves out of a bulk those that are `unfit`."""

    word: str
    done: str
    suits: Callable[[api.ScheduleItem], bool] = lambda item: True
    unfit: str = ""


async def do_each(
    client: Client,
    selection: Selection,
    verb: Verb,
    change: Callable[[str, int | None], Awaitable[T]],
    tell: Callable[[T], None],
    shown: Format,
) -> None:
    """Do it to each, and let each have its chance; `change` gets an id, and the revision if a selector found it.

    One id alone answers with its own body, or its own error. Raises the failures of several at the end.
    """
    if selection.is_bulk:
        revisions: dict[str, int | None] = await _agreed(client, selection, verb, shown)
    else:
        revisions = dict.fromkeys(selection.ids)
        if selection.dry_run:
            say("\n".join(f"{schedule_id} would be {verb.done}" for schedule_id in revisions))
            return
    if len(selection.ids) == 1:
        await only(lambda: change(selection.ids[0], None), tell, shown)
        return

    async def do(schedule_id: str) -> T:
        return await change(schedule_id, revisions[schedule_id])

    await each_of(list(revisions), do, tell, shown, title=verb.word.capitalize(), what=f"not {verb.done}")


async def only(change: Callable[[], Awaitable[T]], tell: Callable[[T], None], shown: Format) -> None:
    reply = await change()
    print_json(api.encode(reply)) if shown.json else tell(reply)


async def _agreed(client: Client, selection: Selection, verb: Verb, shown: Format) -> dict[str, int | None]:
    """What a selector finds, shown and agreed to; nothing if there is none or only a look was wanted."""
    found = await selected(client, selection)
    chosen = [item for item in found if verb.suits(item)]
    others = f" ({verb.unfit}: {len(found) - len(chosen):,})" if len(chosen) < len(found) else ""
    if not shown.json:
        say(f"{_counted(len(chosen))} to {verb.word}{others}{_listed(chosen)}")
    if not chosen or selection.dry_run:
        return {}
    must_agree(f"{verb.word.capitalize()} {_counted(len(chosen))}?", yes=selection.yes)
    return {item.id: item.revision for item in chosen}


def _counted(count: int) -> str:
    return "1 schedule" if count == 1 else f"{count:,} schedules"


def _listed(items: Sequence[api.ScheduleItem]) -> str:
    if not items:
        return ""
    more = f", and {len(items) - SHOWN_MAX:,} more" if len(items) > SHOWN_MAX else ""
    return f": {', '.join(item.id for item in items[:SHOWN_MAX])}{more}"


async def each_of(
    ids: Sequence[str],
    change: Callable[[str], Awaitable[T]],
    tell: Callable[[T], None],
    shown: Format,
    *,
    title: str,
    what: str,
) -> None:
    """Do it to each, many at a time, told in their order; raises what failed at the end."""
    replies: list[T] = []
    failures: list[tuple[str, ScheddError]] = []
    async for schedule_id, outcome in carry_out(ids, change, title=title):
        if isinstance(outcome, ScheddError):
            failures.append((schedule_id, outcome))
            continue
        replies.append(outcome)
        if not shown.json:
            tell(outcome)
    if shown.json:
        print_json(msgspec.json.encode(replies))
    tell_failures(failures, total=len(ids), tried=len(replies) + len(failures), what=what)
