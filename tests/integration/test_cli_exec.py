"""`schedctl worker exec`: a program per task, on a real server, with all that programs do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from scheduler.wire.reports import Cancel, encode
from tests.integration.worker_stage import NAMES, ROOT, Stage, eventually


@contextlib.contextmanager
def serving(stage: Stage, *command: str, options: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """`schedctl worker exec --queue Q OPTIONS -- COMMAND`, ended when the block is left."""
    env = {**os.environ, "NATS_URL": stage.url, "PYTHONPATH": str(ROOT), "SCHEDD_DEADLINE": "stale"}
    line = [sys.executable, "-m", "cli.schedctl", "worker", "exec", "--queue", "Q", *options, "--", *command]
    with (stage.folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(line, env=env, stderr=log, cwd=stage.folder)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def sh(stage: Stage, script: str, **more: Any) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    return serving(stage, "sh", "-c", script, **more)


async def lines(stage: Stage, execution: str) -> list[tuple[str, str]]:
    """(level, message) of every log line of an execution."""
    found: list[tuple[str, str]] = []
    seq = 1
    while True:
        request = msgspec.json.encode({"seq": seq, "next_by_subj": NAMES.log(execution)})
        reply = await stage.client.request(f"$JS.API.STREAM.MSG.GET.{NAMES.logs}", request, timeout=5)
        message = msgspec.json.decode(reply.data).get("message")
        if message is None:
            return found
        body = msgspec.json.decode(msgspec.convert(message["data"], bytes))
        found.append((body["level"], body["message"]))
        seq = message["seq"] + 1


def alive(mark: str) -> list[int]:
    """Processes with `mark` as one of their arguments, zombies and our own left out."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = place.joinpath("stat").read_text().rpartition(")")[2].split()[0]
            words = place.joinpath("cmdline").read_bytes().split(b"\0")
            if any(word.endswith(mark.encode()) for word in words) and state != "Z":
                found.append(int(place.name))
    return [pid for pid in found if pid != os.getpid()]


async def gone(mark: str, within_s: float = 8) -> None:
    async def look() -> bool:
        return not alive(mark)

    await eventually(look, within_s=within_s)


async def test_a_program_does_the_work(stage: Stage) -> None:
    """Payload on its input, ids in its environment, result from its file, both outputs in the log; any type."""
    script = """
        cat > "input.$SCHEDD_TYPE"
        env | grep -e ^SCHEDD_ -e ^TRACEPARENT | sort > "env.$SCHEDD_TYPE"
        printf 'one\\ntwo without an end'; echo oops >&2
        printf '{"n": 2}' > "$SCHEDD_RESULT"
    """
    with sh(stage, script):
        first = await stage.put("a", b'{"n":1}', headers={"X-Team": "crm", "traceparent": "00-ab-cd-01"})
        second = await stage.put("b:c", None)
        ends = [await stage.final(each) for each in (first, second)]
    assert [(end["outcome"], end["result"]) for end in ends] == [("succeeded", {"n": 2})] * 2
    assert stage.folder.joinpath("input.a").read_text() == '{"n":1}'
    assert stage.folder.joinpath("input.b:c").read_text() == ""
    told = dict(line.split("=", 1) for line in stage.folder.joinpath("env.a").read_text().splitlines())
    assert told.pop("SCHEDD_RESULT").endswith(".result")
    assert told == {
        "SCHEDD_EXECUTION_ID": first, "SCHEDD_SCHEDULE_ID": "some.schedule", "SCHEDD_QUEUE": "Q", "SCHEDD_TYPE": "a",
        "SCHEDD_KIND": "auto", "SCHEDD_ATTEMPT": "1", "SCHEDD_MAX_TRIES": "3",
        "SCHEDD_NOMINAL_AT": "2026-11-21T12:00:00.000Z", "SCHEDD_FIRE_AT": "2026-11-21T12:00:00.000Z",
        "SCHEDD_PREVIOUS_AT": "2026-11-21T11:59:00.000Z", "SCHEDD_NEXT_AT": "2026-11-21T12:01:00.000Z",
        "SCHEDD_HEADER_X_TEAM": "crm", "SCHEDD_HEADER_TRACEPARENT": "00-ab-cd-01", "TRACEPARENT": "00-ab-cd-01",
    }  # fmt: skip
    assert sorted(await lines(stage, first)) == [("info", "one"), ("info", "two without an end"), ("warning", "oops")]


async def test_the_exit_code_decides(stage: Stage) -> None:
    """65 fails at once, others are tried again; a signal and a missing program are told as such."""
    codes = {
        "data": "exit 65",
        "own": "exit 9",
        "odd": "exit 3",
        "shot": "kill -SEGV $$",
        "missing": "exec nothing-here",
    }
    script = "case $SCHEDD_TYPE in " + " ".join(f"{name}) echo why >&2; {do};;" for name, do in codes.items()) + " esac"
    options = ("--max-tries", "2", "--no-retry", "65,9", "--concurrency", "5")
    with sh(stage, script, options=options):
        ids = {name: await stage.put(name) for name in codes}
        ends = {name: await stage.final(each) for name, each in ids.items()}
        tries = {name: len(await stage.outcomes(each)) for name, each in ids.items()}
    assert {end["outcome"] for end in ends.values()} == {"failed"}
    assert tries == {"data": 1, "own": 1, "odd": 2, "shot": 2, "missing": 2}
    assert ends["odd"]["error"]["type"] == "exec.ExitCode"
    assert ends["odd"]["error"]["message"] == "exit code 3: why"
    assert ends["odd"]["error"]["traceback"] == "why"
    assert ends["shot"]["error"]["message"] == "killed by SIGSEGV: why"
    assert "command not found" in ends["missing"]["error"]["message"]


async def test_output_of_every_kind(stage: Stage) -> None:
    """Binary, endless lines, 200 MB, an input that nobody reads, a result of no JSON: the work is done all the same."""
    script = """
        case $SCHEDD_TYPE in
        binary) printf 'a\\377\\000b\\033[31m\\n';;
        long) head -c 9000000 /dev/zero | tr '\\0' x;;
        much) yes line | head -c 200000000; echo the end;;
        deaf) exec <&-; sleep 0.1;;
        text) echo plain > "$SCHEDD_RESULT";;
        huge) head -c 70000 /dev/zero | tr '\\0' 1 > "$SCHEDD_RESULT";;
        esac
    """
    with sh(stage, script, options=("--concurrency", "3")):
        ids = {
            name: await stage.put(name, b'"%s"' % (b"p" * 60_000))
            for name in ("binary", "long", "deaf", "text", "huge", "much")
        }
        ends = {name: await stage.final(each, within_s=60) for name, each in ids.items()}
    assert {end["outcome"] for end in ends.values()} == {"succeeded"}
    assert ends["text"]["result"] == "plain"
    assert ends["huge"]["result"] is None
    assert await lines(stage, ids["binary"]) == [("info", "a\\xff\0b\033[31m")]
    [(_, line)] = await lines(stage, ids["long"])
    assert line == "x" * 4000 + "... (cut)"
    told = [line for _, line in await lines(stage, ids["much"])]
    assert len(told) == 400 + 1 + 50
    assert told[400] == f"... {40_000_001 - 450:,} lines left out ..."
    assert told[-2:] == ["line", "the end"]


async def test_cancel_is_sigterm_then_sigkill(stage: Stage) -> None:
    """A cancelled program may tidy up; one that does not listen is killed with its children when the grace is over."""
    script = """
        trap 'echo tidy > tidied; exit 0' TERM
        if [ $SCHEDD_TYPE = stubborn ]; then trap '' TERM; fi
        touch "began.$SCHEDD_TYPE"
        sleep 987 & wait; sleep 987; sleep 987
    """
    with sh(stage, script, options=("--concurrency", "2")):
        ids = {name: await stage.put(name) for name in ("kind", "stubborn")}
        for name, execution in ids.items():
            await eventually(lambda name=name: _exists(stage.folder / f"began.{name}"))
            body = encode(Cancel(action="cancel", grace_s=0.5))
            await stage.client.publish(NAMES.cancel("Q", execution), body)
        ends = [await stage.final(each) for each in ids.values()]
        assert [end["outcome"] for end in ends] == ["cancelled", "cancelled"]
        await gone("987")
    assert await _exists(stage.folder / "tidied")


async def _exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


async def test_a_timeout_and_what_is_left_in_the_background(stage: Stage) -> None:
    """A timeout ends it within the grace; a child that keeps the output open neither delays the end nor survives it."""
    script = "[ $SCHEDD_TYPE = slow ] && sleep 986; sleep 985 & echo done"
    with sh(stage, script, options=("--timeout", "500ms", "--grace", "200ms", "--max-tries", "1")):
        slow = await stage.put("slow")
        assert (await stage.final(slow))["outcome"] == "timed_out"
        began_s = time.monotonic()
        left = await stage.put("left")
        assert (await stage.final(left))["outcome"] == "succeeded"
        assert time.monotonic() - began_s < 3
        assert await lines(stage, left) == [("info", "done")]
        await gone("986")
        await gone("985")


async def test_sigterm_drains(stage: Stage) -> None:
    """The worker lets the program end, reports it and leaves with 0; nothing of its own is left."""
    with sh(stage, "touch began; sleep 1; echo '\"late\"' > $SCHEDD_RESULT") as process:
        execution = await stage.put("t")
        await eventually(lambda: _exists(stage.folder / "began"))
        process.send_signal(signal.SIGTERM)
        assert (await stage.final(execution))["result"] == "late"
        assert await asyncio.to_thread(process.wait, 10) == 0
    assert not alive("guardian.py")


async def test_kill_9_of_the_worker_leaves_nothing(stage: Stage) -> None:
    """Its guardian ends program and children, even those that ignore SIGTERM, and removes the folder."""
    with sh(stage, "trap '' TERM; echo $SCHEDD_RESULT > began; sleep 984 & sleep 984; sleep 984") as process:
        await stage.put("t")
        await eventually(lambda: _exists(stage.folder / "began"))
        await eventually(lambda: _is_alive("984"))
        process.kill()
        await gone("984")
    await gone("guardian.py")
    assert not await _exists(Path(stage.folder.joinpath("began").read_text().strip()).parent)


async def _is_alive(mark: str) -> bool:
    return bool(alive(mark))


async def test_a_killed_guardian_is_followed_by_another(stage: Stage) -> None:
    """Work goes on, and the promise too."""
    with sh(
        stage, "[ $SCHEDD_TYPE = long ] && { touch began; sleep 983; } || true", options=("--concurrency", "2")
    ) as process:
        await stage.put("long")
        await eventually(lambda: _exists(stage.folder / "began"))
        for pid in alive("guardian.py"):
            if _parent(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)
        assert (await stage.final(await stage.put("short")))["outcome"] == "succeeded"
        process.kill()
        await gone("983")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_what_cannot_be_served_is_told() -> None:
    """A command that is not there, no command, a code that is none: one sentence, exit 2."""
    for arguments, word in {
        ("--queue", "Q", "--", "nothing-here"): "nothing-here",
        ("--queue", "Q"): "COMMAND",
        ("--", "true"): "--queue",
        ("--queue", "Q", "--no-retry", "x", "true"): "--no-retry",
        ("--queue", "a b", "true"): "a b",
        ("--queue", "Q", "--timeout", "soon", "true"): "timeout",
    }.items():
        line = [sys.executable, "-m", "cli.schedctl", "worker", "exec", *arguments]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, word in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
