/* What becomes of one occurrence, for every interleaving: record, pair, the withheld claim (mechanisms.md, 4; docstring of
 * scheduler/services/launch.py), attempts (7).
 *
 * A process may stop between any two steps for ever (kill) or for any time (SIGSTOP, partition).
 * One atomic block is one write that the server takes or refuses as a whole.
 * Messages are delivered again for as long as they lie there.
 *
 * What must hold:
 *   once   at most one task, and at most one first attempt
 *   end    what ended as expired has no task
 * Without a mechanism (-DNO_CLAIM, -DNO_ATTEMPT, -DNO_WITHHOLD) spin finds the case it is for.
 */

mtype = { none, claimed, queued, expired };
mtype = { nobody, task, withheld };

byte due = 2;                       /* due messages: the occurrence may have been armed again after it had fired */
bool is_wanted = true;              /* by the definition in force */
mtype record = none;
byte revision = 0;                  /* of the record */
mtype claim = nobody;
byte tasks = 0, starts = 0;
bool waits = false;                 /* the task lies in its queue */
bool started = false;               /* the report that claims attempt 1 */

active proctype Editor() {
    is_wanted = false
}

active [2] proctype Dispatcher() {
    byte seen;
    bool is_creator, is_done;

    do
    :: due > 0 ->
        is_done = false;
        if
        :: !is_wanted -> is_done = true                                   /* superseded */
        :: else ->
            atomic {
                if
                :: record == none -> record = claimed; revision++; is_creator = true
                :: else -> is_creator = false
                fi;
                seen = revision;
                is_done = record != none && record != claimed
            };
            if
            :: !is_done && !is_creator ->                                   /* Resume: over the record as it was read */
                atomic {
                    if
                    :: revision == seen && record == claimed -> revision++; seen = revision
                    :: else -> is_done = true                               /* left to whoever was faster */
                    fi
                }
            :: else
            fi;
            if
            :: !is_done ->
                atomic {                                                    /* the pair, however late */
                    if
#ifndef NO_CLAIM
                    :: claim != nobody -> skip
#endif
                    :: else ->
                        claim = task;
                        tasks++;
                        waits = true;
                        assert(tasks <= 1);                                 /* once */
                        assert(record != expired)                           /* end */
                    fi
                };
                atomic { if :: record == claimed && claim == task -> record = queued; revision++ :: else fi }
            :: else
            fi
        fi;
        atomic { if :: due > 0 -> due-- :: else fi }
    :: break                        /* dies, or has nothing to do any more */
    od
}

/* --- whoever ends a claimed record past its deadline */

active proctype Ender() {
    byte seen;
    bool is_open;

    do
    :: atomic { record == claimed -> seen = revision };
        atomic {
#ifdef NO_WITHHOLD
            is_open = claim == nobody                                       /* only a look */
#else
            if :: claim == nobody -> claim = withheld :: else fi;
            is_open = claim == withheld
#endif
        };
        if
        :: is_open ->
            atomic {
                if
                :: revision == seen && record == claimed ->
                    record = expired;
                    revision++;
                    assert(tasks == 0)                                      /* end */
                :: else
                fi
            }
        :: else ->
            atomic { if :: record == claimed -> record = queued; revision++ :: else fi }
        fi
    :: break
    od
}

/* --- workers: a task is delivered again until it is acknowledged */

active [2] proctype Worker() {
    bool is_mine;

    do
    :: waits ->
        atomic {
            is_mine = true;
#ifndef NO_ATTEMPT
            is_mine = !started;
#endif
            started = true
        };
        if
        :: is_mine ->
            starts++;
            assert(starts <= 1);                                            /* once */
            if
            :: waits = false        /* done, and acknowledged */
            :: break                /* dies while it works: what follows is attempt 2, with a claim of its own */
            fi
        :: else -> break            /* another one has it */
        fi
    :: break
    od
}
