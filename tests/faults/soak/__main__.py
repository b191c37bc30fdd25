"""The soak by one command; exit code 1 when a guarantee was broken, something was not given back, or it proves nothing.

    python -m tests.faults.soak --for 1800s --nodes 1|3 --out DIR [--rate 40] [--seed N] [--calm]
    python -m tests.faults.soak --judge DIR

`--calm`: the same load and clients without a fault: what leaks per fire shows there. `--judge`: look again at what a
run has left in DIR. Written into DIR: `report.md`, `soak.svg`, `verdict.json`, and what they follow from:
`history.json`, the evidence of the workers, the logs.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.faults.origin import where
from tests.faults.soak.history import Plan, Soak
from tests.faults.soak.judging import Verdict, judge
from tests.faults.soak.picture import picture
from tests.faults.soak.report import report
from tests.faults.soak.running import deliveries_in, soak
from tests.faults.storm.__main__ import seconds_of

HISTORY, COMMAND, WHERE, PICTURE = "history.json", "command.txt", "where.txt", "soak.svg"


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--rate", type=int, default=40, help="fires a second")
    parser.add_argument("--for", dest="length_s", type=seconds_of, default=1800.0, metavar="1800s")
    parser.add_argument("--rest", dest="rest_s", type=seconds_of, default=240.0, metavar="240s")
    parser.add_argument("--warm", dest="warm_s", type=seconds_of, default=60.0, metavar="60s")
    parser.add_argument("--late-max", dest="late_max_s", type=seconds_of, default=60.0, metavar="60s")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--calm", action="store_true", help="break nothing")
    parser.add_argument("--judge", type=Path, metavar="DIR", help="run nothing")
    asked = parser.parse_args(arguments)
    if (asked.out is None) == (asked.judge is None):
        parser.error("give one of --out and --judge")
    return asked


def main(arguments: list[str]) -> int:
    asked = parsed(arguments)
    place: Path = asked.judge or asked.out
    if asked.judge is None:
        place.mkdir(parents=True, exist_ok=True)
        carried_out(plan_of(asked), place)
        (place / COMMAND).write_text(shlex.join(["python", "-m", "tests.faults.soak", *arguments]) + "\n")
        (place / WHERE).write_text("\n".join(where()) + "\n")
    verdict = judged(place)
    print(f"\n{(place / 'report.md').read_text()}\nwritten to {place / 'report.md'}")
    return 1 if verdict.broken else 0


def plan_of(asked: argparse.Namespace) -> Plan:
    return Plan(
        nodes=asked.nodes, rate=asked.rate, length_s=asked.length_s, calm=asked.calm,
        seed=secrets.randbelow(2**32) if asked.seed is None else asked.seed,
        warm_s=asked.warm_s, rest_s=asked.rest_s, late_max_s=asked.late_max_s,
    )  # fmt: skip


def carried_out(plan: Plan, place: Path) -> None:
    """Run it, and keep everything it left behind."""
    began_s = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began_s:7.1f} s  {text}", flush=True)

    tell(f"seed {plan.seed}")
    folder = Path(tempfile.mkdtemp(prefix="schedd-soak-"))
    try:
        (place / HISTORY).write_bytes(msgspec.json.encode(asyncio.run(soak(plan, folder, tell=tell))))
    finally:
        shutil.copytree(folder, place, ignore=shutil.ignore_patterns("nats"), dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def judged(place: Path) -> Verdict:
    """The verdict on what is in a folder, with its page and its picture."""
    history = msgspec.json.decode((place / HISTORY).read_bytes(), type=Soak)
    verdict = judge(history, deliveries_in(place))
    (place / "verdict.json").write_bytes(msgspec.json.encode(verdict))
    (place / PICTURE).write_text(picture(verdict, history.samples, history.rests))
    command, machine = (place / COMMAND).read_text().strip(), (place / WHERE).read_text().splitlines()
    (place / "report.md").write_text(report(verdict, command=command, where=machine, picture=PICTURE))
    return verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
