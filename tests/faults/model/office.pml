/* Who may plan, for every interleaving: lease, epoch, fence and watermark (mechanisms.md, 1 and 2).
 *
 * A process may stop between any two steps for ever (kill) or for any time (SIGSTOP, partition),
 * so a lease may pass on at any moment as far as its holder can tell, and what he has in hand is sent when all has changed.
 * One atomic block is one write that the server takes or refuses as a whole.
 * Definition 1 wants the occurrence, definition 2 (an edit, a delete) does not.
 *
 * What must hold:
 *   order  epochs ascend with the leases they were taken under
 *   fence  no batch is accepted that was planned from an older definition than the one that was acknowledged
 * Without the one or the other (-DNO_ORDER, -DNO_FENCE) spin finds the case it is for.
 */

#define LEASES 4   /* so many terms */
#define BATCHES 2  /* of one term */

byte lease = 0;                     /* revision of the lease key */
byte epoch = 0, epoch_lease = 0;    /* its sequence, and the lease revision it was taken under */
byte mark = 0, applied = 0;         /* the watermark's sequence, and the definition it says is applied */
byte written = 1;                   /* the newest definition */

active [2] proctype Leader() {
    byte my_lease, seen, my_epoch, my_mark, planned, batches;
    bool is_mine;

campaign:
    if
    :: atomic { lease < LEASES -> lease++; my_lease = lease }
    :: goto over
    fi;
    atomic { seen = epoch; is_mine = epoch_lease < my_lease };
#ifndef NO_ORDER
    if :: !is_mine -> goto campaign :: else fi;
#endif
    atomic {                        /* taking office: the epoch by CAS, and the watermark written anew */
        if
        :: epoch == seen ->
            assert(my_lease > epoch_lease);                                             /* order */
            epoch++;
            epoch_lease = my_lease;
#ifndef NO_FENCE
            mark++;
#endif
            my_epoch = epoch;
            my_mark = mark;
            is_mine = true
        :: else -> is_mine = false
        fi
    };
    if :: !is_mine -> goto campaign :: else fi;
    batches = 0;
    do
    :: batches < BATCHES ->
        planned = written;          /* a leader read; then any time passes */
        atomic {
            if
#ifndef NO_FENCE
            :: epoch != my_epoch -> is_mine = false
#endif
            :: mark != my_mark -> is_mine = false
            :: else ->
                assert(planned >= applied);                                             /* fence */
                applied = planned;
#ifndef NO_FENCE
                mark++;
                my_mark = mark;
#endif
                batches++
            fi
        };
        if :: !is_mine -> break :: else fi
    :: break                        /* steps down, or dies */
    od;
    goto campaign;
over:
    skip
}

active proctype Editor() {
    written = 2
}
