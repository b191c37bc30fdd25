"""Fault runs: processes are killed, stopped and cut off, and the evidence of workers is checked afterwards.

`registry.py` names every fault that we promise to survive and the tests that hold it; `python -m tests.faults` lists
and runs them. `storm/` is the long run whose figures we publish: `python -m tests.faults.storm`.
"""
