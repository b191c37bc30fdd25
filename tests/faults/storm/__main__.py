"""The storm by one command; exit code 1 when a guarantee was broken or the run proves nothing.

    python -m tests.faults.storm --nodes 1|3 --rate 300 --for 600s --kill-every 5s --out DIR [--seed N] [--undisturbed]

First an undisturbed run of the same length (or of `--beside`), unless DIR has one of the same commit and settings
(`undisturbed.json`); then the storm. `--undisturbed`: only the first.
Written into DIR: `report.md`, `timeline.svg`, the figures as JSON.
Logs and evidence are kept in DIR when something is broken, or with --keep.
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

from tests.faults.origin import commit, where
from tests.faults.storm.figures import Figures, Plan, figures_of
from tests.faults.storm.picture import picture
from tests.faults.storm.processes import storm
from tests.faults.storm.report import report

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """`600s`, `10m`, `1h`; raises ValueError, which argparse tells."""
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS_S:
        raise ValueError(text)
    found = float(number) * UNITS_S[unit]
    if not 0 < found <= 86_400:
        raise ValueError(text)
    return found


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__, formatter_class=_KEEPS)
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--rate", type=int, default=300, help="fires a second")
    parser.add_argument("--for", dest="length_s", type=seconds_of, default=600.0, metavar="600s")
    parser.add_argument("--kill-every", dest="kill_every_s", type=seconds_of, default=5.0, metavar="5s")
    parser.add_argument(
        "--beside", dest="beside_s", type=seconds_of, metavar="120s", help="length of the undisturbed run"
    )
    parser.add_argument("--horizon", dest="horizon_s", type=seconds_of, default=15.0, metavar="15s")
    parser.add_argument("--late-max", dest="late_max_s", type=seconds_of, default=10.0, metavar="10s")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--undisturbed", action="store_true", help="no kills, no storm afterwards")
    parser.add_argument("--keep", action="store_true", help="keep logs and evidence of a good run, too")
    return parser.parse_args(arguments)


_KEEPS = argparse.RawDescriptionHelpFormatter


def main(arguments: list[str]) -> int:
    asked = parsed(arguments)
    out: Path = asked.out
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        nodes=asked.nodes, rate=asked.rate, length_s=asked.length_s, kill_every_s=asked.kill_every_s,
        seed=secrets.randbelow(2**32) if asked.seed is None else asked.seed,
        horizon_s=asked.horizon_s, late_max_s=asked.late_max_s,
    )  # fmt: skip
    print(f"seed {plan.seed}")
    calm = msgspec.structs.replace(plan, kill_every_s=0.0, length_s=asked.beside_s or plan.length_s)
    beside = _known(out / "undisturbed.json", calm) or carried_out(calm, out / "undisturbed.json", keep=asked.keep)
    stormy = None if asked.undisturbed else carried_out(plan, out / "storm.json", keep=asked.keep)
    shown = stormy or beside
    command = shlex.join(["python", "-m", "tests.faults.storm", *arguments])
    page = report(shown, beside if stormy else None, command=command, where=where(), picture="timeline.svg")
    (out / "report.md").write_text(page)
    (out / "timeline.svg").write_text(picture(shown, beside if stormy else None))
    print(f"\n{page}\nwritten to {out / 'report.md'}")
    return 1 if beside.broken or shown.broken else 0


def carried_out(plan: Plan, place: Path, *, keep: bool) -> Figures:
    """Run a plan, write its figures down, and keep what it left behind if there is a reason to."""
    began_s = time.monotonic()
    name = place.stem

    def tell(text: str) -> None:
        print(f"{name} {time.monotonic() - began_s:6.1f} s  {text}", flush=True)

    folder = Path(tempfile.mkdtemp(prefix=f"schedd-{name}-"))
    try:
        figures = figures_of(plan, asyncio.run(storm(plan, folder, tell=tell)))
        place.write_bytes(msgspec.json.encode({"commit": commit(), "figures": figures}))
        keep = keep or bool(figures.broken)
        tell("broken: " + "; ".join(figures.broken) if figures.broken else "every guarantee held")
    except BaseException:
        keep = True
        raise
    finally:
        if keep:
            kept = place.with_name(f"{name}-evidence")
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("nats"))
        shutil.rmtree(folder, ignore_errors=True)
    return figures


class _Stored(msgspec.Struct):
    commit: str
    figures: Figures


def _known(place: Path, plan: Plan) -> Figures | None:
    """The figures of an earlier run of this plan on this commit, whatever its seed was."""
    try:
        stored = msgspec.json.decode(place.read_bytes(), type=_Stored)
    except (OSError, msgspec.DecodeError):
        return None
    same = msgspec.structs.replace(stored.figures.plan, seed=plan.seed) == plan
    return stored.figures if same and stored.commit == commit() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
