"""HTTP: the monitor app (`monitor`), and how an app is served inside the daemon's own event loop (`serving`).

No signal handler, no thread and no process of its own: the daemon owns SIGTERM and tells a server when to stop.
"""
