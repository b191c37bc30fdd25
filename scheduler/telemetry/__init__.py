"""What schedd tells about itself: metrics for Prometheus (`metrics`) and log lines (`logging`).

Metric names and log events are a contract: names of metrics are in part 10 of it, log lines carry a stable `event`.
"""
