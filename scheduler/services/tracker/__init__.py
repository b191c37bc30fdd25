"""What became of the tasks: every replica folds reports and signals into records (mechanisms.md, part 7).

Guarantees: a message is acknowledged only after the record that it moved is written; the record is written before a
task is removed; whatever is told twice, late or out of order comes to the same record.

Failure handling: what cannot be written now is not acknowledged and comes again; what breaks our own code is set apart,
counted and logged; what the server never told (its signals are sent at most once) is found by looking: `inspecting`.
"""
