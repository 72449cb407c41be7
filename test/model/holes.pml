/* SPDX-License-Identifier: MIT
 *
 * Holes: a scavenger gives memory without live slots back to the system, while the owner of the page
 * allocates and frees. A page has two slots in one bitmap word; each slot is a unit of memory of its
 * own. The search explores all interleavings. Memory is sequentially consistent.
 *
 *   Owner (CurrentPage, SizeClass)               Scavenger (scan_page)
 *   claim, with the lock:                          with the lock:
 *     latest = slots; holes end; claimed = slots     current: free = local | remote, not latest
 *   issue:                                           full: free = remote & ~local
 *     claimed -= slot, then local -= slot            else: free = local | remote
 *   free: local += slot                              due = free & seen & ~dropped
 *   free in a full page, handing off:                purge due; dropped += due
 *     local += slot, then claimed = slot             seen = free
 *   free in a full page, not handing off:
 *     claimed = 0, local += slot, then partial
 *   drain: remote = 0, then local += bits
 *   enter, leave, give back: with the lock
 *
 * The lock is one step here; asymmetric_lock.pml covers it. The assertions, by the names that a
 * failed assertion shows:
 *   purging           no slot in use loses its contents
 *   hole              no slot in use is in a hole (H1)
 *   zero              a claim finds the memory of a hole zero
 *   page_is_ours      nothing of a page that was given back is purged
 *
 * Switches, apart from those of the mutants (MUTANT_..., each at the place that it breaks):
 *   SCANS=n           scans of the page (3)
 *   GRANTS=n          slots issued in a run (5)
 *   WITNESS=NAME      asserts that NAME never happens
 */

#ifndef SCANS
#define SCANS 3
#endif
#ifndef GRANTS
#define GRANTS 5
#endif

#define REFAULT 1         /* a claim ends a hole */
#define ZEROES 2          /* all of a claim was a hole */
#define ISSUED_MEANWHILE 3  /* a slot is issued during a scan */
#define HANDED_OFF_MEANWHILE 4
#define REMOTE_HOLE 5     /* a hole of slots that others freed, of a full page */
#ifndef WITNESS
#define WITNESS 0
#endif
#define witness(name) assert(WITNESS != name)

#define ALL 3
#define lowest(mask) ((mask) & 1 -> 1 : 2)

/* The place of the page. Its tag tells the scavenger whether it is FULL. */
#define GONE 0
#define CURRENT 1
#define PARTIAL 2
#define FULL 3

/* State of the code: */
byte local_word = ALL, remote_word;
byte claimed, latest;
byte place = PARTIAL;
byte dropped, seen;

/* State of the model alone: */
byte in_use;              /* slots that a client has */
byte theirs;              /* of these, the ones that another thread will free */
byte dirty = ALL;         /* memory that is not zero */
byte purging;
byte grants = GRANTS;
bool owner_is_there, scavenger_is_there;

inline lock() { atomic { !scavenger_is_there -> owner_is_there = true } }
inline unlock() { owner_is_there = false }

inline check_holes() { assert((in_use & dropped) == 0) /* hole */ }

/* Takes a claimed slot: two steps, with anything in between. */
inline issue() {
  mask = lowest(claimed);
  claimed = claimed & ~mask;
  atomic {
    local_word = local_word & ~mask;
    assert((in_use & mask) == 0);
    in_use = in_use | mask;
    if
    :: scavenger_is_there -> witness(ISSUED_MEANWHILE)
    :: else
    fi;
    assert((purging & in_use) == 0);
    check_holes();
    dirty = dirty | mask;
    grants--;
    if
    :: theirs = theirs | mask
    :: true
    fi;
    mask = 0
  }
}

/* A full page has a free slot again, which is not handed off. */
inline relist() {
#ifndef MUTANT_RELIST_KEEPS_CLAIM
  claimed = 0;
#endif
  place = PARTIAL
}

active proctype Owner() {
  byte mask, bits;
  do
  :: place == CURRENT && claimed == 0 && local_word != 0 && grants > 0 ->      /* claim */
#ifndef MUTANT_CLAIM_WITHOUT_LOCK
     lock();
#endif
     atomic {
       mask = local_word;
       if
       :: mask == ALL -> mask = 1      /* large objects: a claim takes a part */
       :: true
       fi;
       latest = mask
     };
     atomic {
       if
       :: (dropped & mask) != 0 -> witness(REFAULT)
       :: else
       fi;
       if
       :: (mask & ~dropped) == 0 -> assert((dirty & mask) == 0) /* zero */; witness(ZEROES)
       :: else
       fi;
#ifndef MUTANT_CLAIM_KEEPS_HOLES
       dropped = dropped & ~mask;
       seen = seen & ~mask
#endif
     };
     atomic { claimed = mask; mask = 0 };
#ifndef MUTANT_CLAIM_WITHOUT_LOCK
     unlock()
#endif
  :: claimed != 0 && grants > 0 -> issue()
  :: atomic {                                                     /* free, not in a full page */
       (in_use & ~theirs) != 0 && place != FULL ->
       mask = lowest(in_use & ~theirs);
       in_use = in_use & ~mask;
       local_word = local_word | mask;
       mask = 0
     }
  :: (in_use & ~theirs) != 0 && place == FULL && claimed == 0 ->     /* hand off */
     mask = lowest(in_use & ~theirs);
     atomic { in_use = in_use & ~mask; local_word = local_word | mask };
     atomic {
       claimed = mask;
       mask = 0;
       if
       :: scavenger_is_there -> witness(HANDED_OFF_MEANWHILE)
       :: else
       fi
     }
  :: (in_use & ~theirs) != 0 && place == FULL ->                  /* free, and do not hand off */
     mask = lowest(in_use & ~theirs);
     atomic { in_use = in_use & ~mask; local_word = local_word | mask };
     atomic { relist(); mask = 0 }
  :: remote_word != 0 && place != GONE ->                         /* drain */
     atomic { bits = remote_word; remote_word = 0 };
     atomic {
       local_word = local_word | bits;
       bits = 0;
       if
       :: place == FULL -> relist()
       :: else
       fi
     }
  :: place == CURRENT ->                                          /* leave the page */
#ifndef MUTANT_LEAVE_WITHOUT_LOCK
     lock();
#endif
     atomic {
       claimed = 0;
       latest = 0;
       place = (local_word == 0 -> FULL : PARTIAL)
     };
#ifndef MUTANT_LEAVE_WITHOUT_LOCK
     unlock()
#endif
  :: place == PARTIAL && local_word != 0 ->                       /* enter it */
     lock();
     place = CURRENT;
     unlock()
  :: place == PARTIAL && local_word == ALL ->                     /* give it back */
#ifndef MUTANT_GIVE_BACK_WITHOUT_LOCK
     lock();
#endif
     atomic { place = GONE; local_word = 0; dirty = ALL };
#ifndef MUTANT_GIVE_BACK_WITHOUT_LOCK
     unlock()
#endif
  :: place == GONE ->                                             /* and get it again */
     lock();
     atomic { local_word = ALL; dropped = 0; seen = 0; place = PARTIAL };
     unlock()
  :: grants == 0 -> break
  od
}

active proctype Freer() {
  byte mask;
  do
  :: atomic {
       theirs != 0 ->
       mask = lowest(theirs);
       theirs = theirs & ~mask;
       in_use = in_use & ~mask;
       remote_word = remote_word | mask;
       mask = 0
     }
  :: grants == 0 && theirs == 0 -> break
  od
}

active proctype Scavenger() {
  byte scans = SCANS, claim, free, own, due;
  bool is_full;
  do
  :: scans > 0 ->
     atomic { !owner_is_there -> scavenger_is_there = true };
     if
     :: place == GONE
     :: else ->
        atomic {
#ifdef MUTANT_IGNORES_CLAIMS
          claim = 0;
#else
#ifdef MUTANT_ASKS_WHAT_IS_CLAIMED_STILL
          claim = claimed;
#else
          claim = (place == CURRENT -> latest : 0);
#endif
#endif
#ifdef MUTANT_COUNTS_LOCAL_BITS_OF_FULL_PAGES
          is_full = false
#else
          is_full = (place == FULL)
#endif
        };
        own = local_word;
        atomic {
          free = (is_full -> remote_word & ~own : remote_word | own) & ~claim;
          due = free & seen & ~dropped;
          claim = 0;
          own = 0
        };
        atomic { assert(place != GONE) /* page_is_ours */; purging = due };
        atomic {
          assert((purging & in_use) == 0);
          assert(place != GONE);
          if
          :: is_full && due != 0 -> witness(REMOTE_HOLE)
          :: else
          fi;
          dirty = dirty & ~due;
          dropped = dropped | due;
          purging = 0;
          due = 0;
          seen = free;
          free = 0;
          is_full = false;
          check_holes()
        }
     fi;
     atomic { scavenger_is_there = false; scans-- }
  :: scans == 0 -> break
  od
}
