"""`schedctl top`: a live view of the whole: health, rates, queues, what runs and how far it is, what failed last.

Rooms: `command` the options · `looking` asks the daemon · `look` what one look found, and what it means (pure) · `app`
the screen, with textual (extra `tui`), imported only when it is shown · `plain` the same as text, for `--once`.
"""
