"""The storm: hundreds of fires a second while whoever leads is killed every few seconds, and what the evidence says.

load.py      pure: the mix of schedules, and what it owes
figures.py   pure: what was found, per run and per window of time; what of it is a broken guarantee
picture.py   pure: windows, lateness and leaders over time, as SVG
report.py    pure: one page
processes.py the real thing: servers, replicas, workers, and kill -9
asking.py    what schedd itself says afterwards: records and audits
"""
