"""`schedctl worker exec`: a program of any kind as a worker, run once per task.

The payload is on its standard input, what it should know in its environment (`environment`), its exit code decides
what becomes of the attempt (`exits`), what it prints becomes the execution's log (`output`), and what it writes into
the file `$SCHEDD_RESULT` is the result.

What it guarantees: each run is a session and process group of its own, and nothing of that group outlives the attempt.
A cancel, a timeout or a worker that stops ends it by SIGTERM, and after the grace by SIGKILL; what a program leaves in
the background when it exits is killed. That holds for a worker that dies by kill -9 too: a small process beside it, the
`guardian`, notices and ends every group, and no program begins before the guardian knows of it. Only what leaves the
group on purpose (a daemon that calls setsid) escapes.

Rooms: `command` the options · `program` one run · `guardian` a script of its own, and its owner's side in `guarding`.
"""
