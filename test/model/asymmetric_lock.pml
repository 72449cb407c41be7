/* SPDX-License-Identifier: MIT
 *
 * The locks between an owner and its scavengers (AsymmetricLock, RemoteBuffer). Only one thread is
 * inside at a time, although the owner executes no fence.
 *
 *   Owner, adding a word         Owner, merging               Scavenger
 *   inside = 1                   merging = 1                  scavenged: 0 → 1
 *   scavenged: inside = 0, go    key gone: merging = 0, go    fence on all processors
 *   key = …                      …                            inside: scavenged = 0, go
 *   inside = 0                   merging = 0                  key = 0
 *                                                             fence on all processors
 *                                                             merging: scavenged = 0, go
 *                                                             …
 *                                                             scavenged = 0
 *
 * Without a fence, a processor may let a later load overtake an earlier store. So each store of the
 * owner waits in a buffer of one. It becomes visible at any time before the owner's next store, or
 * when the scavenger's fence reaches the owner's processor. The scavenger's own stores are visible
 * at once, since its fence precedes every step that depends on them.
 * The model treats orders as memory_order.pml does. A release adds its thread's knowledge to the
 * word; an acquire adds the word's to its thread. Loads of the key need no order, since only the
 * owner restores a key, after it entered by the first lock.
 *
 * The assertions, by the names that a failed assertion shows:
 *   alone             the owner and a scavenger, or two scavengers, are never inside together
 *   knows_contents    a thread that is inside knows all earlier actions inside
 *   admitted          an owner that has paused scavenging enters at its first attempt
 *
 * Switches, apart from those of the mutants and orders, each at its place:
 *   WITNESS=NAME      asserts that NAME never happens
 *   PAUSES_SCAVENGING scavengers hold a mutex throughout; the owner may take it to enter by the
 *                     first lock
 */

#define RELAXED 0
#define ACQUIRE 1
#define RELEASE 2

/* The orders in the code: */
#ifndef ENTER
#define ENTER ACQUIRE          /* try_lock_owner, load of scavenged */
#endif
#ifndef LEAVE
#define LEAVE RELEASE          /* unlock_owner and Entry::merge, store to inside and merging */
#endif
#ifndef SCAVENGER_EXCHANGE
#define SCAVENGER_EXCHANGE ACQUIRE /* try_lock_scavenger, exchange of scavenged */
#endif
#ifndef SCAVENGER_LOAD
/* try_lock_scavenger, load of inside; RemoteBuffer::take_all, load of merging */
#define SCAVENGER_LOAD ACQUIRE
#endif
#ifndef SCAVENGER_STORE
#define SCAVENGER_STORE RELEASE    /* unlock_scavenger, store to scavenged */
#endif

#define ADDS 1                 /* the owner enters by the first lock after a scavenger was inside */
#define MERGES 2               /* and by the second */
#define TURNED_AWAY 3          /* the owner meets a scavenger and leaves */
#define KEY_GONE 4             /* the same at the second lock, by the key alone */
#define GIVES_UP 5             /* a scavenger meets the owner at the first lock and leaves */
#define GIVES_UP_LATE 6        /* at the second */
#define OVERTAKEN 7            /* the owner reads scavenged before its mark is visible */
#define STOPPED 8              /* the owner waits for the end of scavenging, then enters */
#ifndef WITNESS
#define WITNESS 0
#endif
#define witness(name) assert(WITNESS != name)

#define SCAVENGERS 2
#define ROUNDS 4               /* of the owner */

/* The words that the owner stores through its buffer, and those of the scavengers. */
#define INSIDE 0
#define MERGING 1
#define KEY 2
#define NOTHING 3
bool word[3];
bool scavenged;

/* The words carry knowledge of actions inside, as one bit for each passage. */
byte carried[3];
byte scavenger_carries;

#ifdef PAUSES_SCAVENGING
bool is_locked;                /* the scavengers' mutex */
#define lock() atomic { !is_locked -> is_locked = true }
#define unlock() is_locked = false
#else
#define lock() skip
#define unlock() skip
#endif

/* The owner's store that is not visible yet. */
byte waiting = NOTHING;
bool waiting_value;
byte waiting_carries;

byte occupants;
byte done;                     /* every passage so far */
bool scavenger_has_been_inside;

inline make_visible() {
  if
  :: waiting != NOTHING ->
     word[waiting] = waiting_value;
     carried[waiting] = waiting_carries;
     waiting = NOTHING
  :: else
  fi
}

/* A store by the owner; its word then carries `releases`. */
inline store(which, what, releases) {
  make_visible();
  waiting = which;
  waiting_value = what;
  waiting_carries = releases
}

/* The value of the owner's own word, as the owner reads it. */
#define own(which) (waiting == which -> waiting_value : word[which])

inline acquire(knows, carries, order) {
  if
  :: (order) == ACQUIRE -> knows = knows | carries
  :: else
  fi
}

inline pass(knows, event) {
  atomic {
    occupants++;
    alone = (occupants == 1);
    assert(alone);
    knows_contents = ((done & ~knows) == 0);
    assert(knows_contents)
  };
  atomic {
    knows = knows | (event);
    done = done | (event);
    occupants--
  }
}

inline leave(which) {
  atomic { printf("owner: leaves\n"); store(which, false, knows * (LEAVE == RELEASE)) }
}

inline look_at_scavenged() {
  atomic {
    sees = scavenged;
    acquire(knows, scavenger_carries, ENTER);
    if
    :: waiting == INSIDE -> witness(OVERTAKEN)
    :: else
    fi
  }
}

inline add_a_word() {
#ifdef MUTANT_LOOK_FIRST
  look_at_scavenged();
#endif
  atomic { printf("owner: marks\n"); store(INSIDE, true, 0) };
#ifndef MUTANT_LOOK_FIRST
  look_at_scavenged();
#endif
  if
  :: !sees ->
     printf("owner: is inside\n");
     if
     :: scavenger_has_been_inside -> witness(ADDS)
     :: else
     fi;
     pass(knows, 1 << (round - 1));
     atomic { printf("owner: writes the key\n"); store(KEY, true, 0) }
  :: else -> witness(TURNED_AWAY)
  fi;
  leave(INSIDE)
}

/* ScavengedQueue::lock_after_scavenger, after the owner met a scavenger. */
inline pause_scavenging_and_enter() {
#ifndef MUTANT_STOPS_NOTHING
  lock();
#endif
  atomic { printf("owner: marks, with scavenging paused\n"); store(INSIDE, true, 0) };
  look_at_scavenged();
  atomic { admitted = !sees; assert(admitted) };
#ifndef MUTANT_STOPS_NOTHING
  unlock();
#endif
  if
  :: scavenger_has_been_inside -> witness(STOPPED)
  :: else
  fi;
  pass(knows, 1 << (round - 1));
  leave(INSIDE)
}

inline merge() {
  atomic { printf("owner: marks, to merge\n"); store(MERGING, true, 0) };
  atomic { sees = own(KEY) };
  if
  :: sees ->
     printf("owner: merges\n");
     if
     :: scavenger_has_been_inside -> witness(MERGES)
     :: else
     fi;
     pass(knows, 1 << (round - 1))
#ifdef MUTANT_MERGE_WRITES_KEY
     ; atomic { store(KEY, true, 0) }
#endif
  :: else -> witness(KEY_GONE)
  fi;
  leave(MERGING)
}

proctype Owner() {
  byte knows, round;
  bool sees, alone, knows_contents, admitted;
  for (round : 1 .. ROUNDS) {
    if
    :: add_a_word()
#ifdef PAUSES_SCAVENGING
    :: pause_scavenging_and_enter()
#endif
    :: own(KEY) == true -> merge()
    fi
  }
}

/* The owner's processor makes a store visible at any time. */
proctype StoreBuffer() {
end:
  do
  :: atomic { waiting != NOTHING -> make_visible() }
  od
}

inline fence() {
  atomic { make_visible(); printf("scavenger %d: fence\n", me) }
}

proctype Scavenger(byte me) {
  byte knows;
  bool before, sees, alone, knows_contents;
  lock();
  atomic {
    before = scavenged;
    scavenged = true;
    acquire(knows, scavenger_carries, SCAVENGER_EXCHANGE);
    printf("scavenger %d: announces the scavenge\n", me)
  };
#ifdef MUTANT_IGNORE_OTHERS
  before = false;
#endif
  if
  :: before
  :: else ->
#ifdef MUTANT_KEYS_FIRST
     word[KEY] = false;
#endif
#ifndef MUTANT_NO_FENCE
     fence();
#endif
     atomic { sees = word[INSIDE]; acquire(knows, carried[INSIDE], SCAVENGER_LOAD) };
#ifdef MUTANT_BARGE_IN
     sees = false;
#endif
     if
     :: sees -> witness(GIVES_UP)
     :: else ->
#ifndef MUTANT_KEYS_FIRST
        word[KEY] = false;
        printf("scavenger %d: takes the key away\n", me);
#ifndef MUTANT_NO_SECOND_FENCE
        fence();
#endif
#endif
        atomic { sees = word[MERGING]; acquire(knows, carried[MERGING], SCAVENGER_LOAD) };
        if
        :: sees -> witness(GIVES_UP_LATE)
        :: else ->
           printf("scavenger %d: is inside\n", me);
           scavenger_has_been_inside = true;
           pass(knows, 1 << (ROUNDS + me))
        fi
     fi;
#ifdef MUTANT_UNLOCK_FIRST
     unlock();
#endif
     atomic {
       scavenged = false;
       printf("scavenger %d: ends its scavenging\n", me);
       /* A scavenger that gave up also releases its knowledge. */
       scavenger_carries = (SCAVENGER_STORE == RELEASE -> scavenger_carries | knows : 0)
     }
  fi;
#ifndef MUTANT_UNLOCK_FIRST
  unlock()
#endif
}

init {
  byte number;
  atomic {
    run Owner();
    run StoreBuffer();
    for (number : 0 .. SCAVENGERS - 1) { run Scavenger(number) }
  }
}
