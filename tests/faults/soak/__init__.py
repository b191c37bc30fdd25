"""The soak: every fault that the nemesis has, in an order the seed decides, with quiet in between, and clients at
work all the while; then whether everything that was taken is given back.

history.py    what was seen of a run: everything the verdict follows from
load.py       what fires, and what clients do to it
clients.py    the clients: edits, pauses, deletions, triggers, cancels, one-shots; each operation goes into the history
nemesis.py    what breaks processes, servers and links
resources.py  memory, files, consumers, bytes of processes and servers, every few seconds
watching.py   records and audits while they last: they expire by configuration, so that bytes can return
running.py    the phases: warm-up, rest, soak, rest
owed.py       pure: what a history of operations owes
levels.py     pure: whether a level is where it was
judging.py    pure: the verdict
picture.py    pure: windows, lateness, faults, leaders and levels over time, as SVG
report.py     pure: one page
"""
