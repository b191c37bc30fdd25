"""The commands: `schedd` (the daemon) and `schedctl` (everything one does with it).

Rooms: `schedd`, `schedctl` the two entries · one file per noun: `schedules`, `executions`, `workers`, `status` ·
`programs`, a worker that is any program · `top`, the live view · `completing`, what a shell offers ·
`definitions` and `files`, a schedule given by flags or by a file · `connecting`, the options that say where ·
`output`, how things are shown · `running`, failures as one sentence and an exit code · `developing`, `demo`.
"""
