/* SPDX-License-Identifier: MIT
 *
 * The gate between an owner and its visitors (Gate, RemoteBuffer::merge): who is inside is inside alone,
 * though the owner executes no fence.
 *
 *   Owner                        Visitor
 *   inside = 1                   visited: 0 → 1
 *   visited: inside = 0, go      fence on all processors
 *   …                            inside: visited = 0, go
 *   inside = 0                   …
 *                                visited = 0
 *
 * Without a fence a processor may let a later load overtake an earlier store. So the owner's store of its mark
 * waits in a buffer of one, and becomes visible at any time before its next store, or when the visitor's
 * fence reaches the owner's processor. The visitor's own operations before its fence are read-modify-writes,
 * or are made visible by that fence. What the orders do is modelled as in memory_order.pml: a release adds what its
 * thread knows to what the word carries, an acquire the reverse.
 *
 * merge() is the same with other words: its mark is `merging`, and it learns of a visitor by the key that is gone.
 * That load needs no acquire: a key comes back by the owner's own doing alone, after it entered by the gate. The word
 * that tells of a visitor must be one that the owner does not write inside (MUTANT_OWNER_WRITES_BACK).
 *
 * What is asserted, by the names that a failed assertion shows:
 *   alone             the owner and a visitor, or two visitors, are not inside at the same time
 *   knows_contents    who is inside knows what was done inside before
 *
 * Switches, apart from those of the mutants and orders, each at its place:
 *   WITNESS=NAME      asserts that NAME never happens
 */

#define RELAXED 0
#define ACQUIRE 1
#define RELEASE 2

/* The orders of the code: */
#ifndef ENTER
#define ENTER ACQUIRE          /* Gate::enter, load of visited */
#endif
#ifndef LEAVE
#define LEAVE RELEASE          /* Gate::leave, store to inside */
#endif
#ifndef VISIT_EXCHANGE
#define VISIT_EXCHANGE ACQUIRE /* Gate::visit, exchange of visited */
#endif
#ifndef VISIT_LOAD
#define VISIT_LOAD ACQUIRE     /* Gate::visit, load of inside */
#endif
#ifndef END_VISIT
#define END_VISIT RELEASE      /* Gate::end_visit, store to visited */
#endif

#define OWNER_ENTERS 1         /* both sides get in during one run */
#define TURNED_AWAY 2          /* the owner meets a visitor and goes */
#define GIVES_UP 3             /* a visitor meets the owner and goes */
#define OVERTAKEN 4            /* the owner reads visited before its mark is visible */
#ifndef WITNESS
#define WITNESS 0
#endif
#define witness(name) assert(WITNESS != name)

#define VISITORS 2
#define ROUNDS 3               /* of the owner */

bool inside;
bool visited;
byte inside_carries;           /* what was done inside, by bits: one for each passage */
byte visited_carries;

/* The owner's store that is not visible yet. */
bool buffered;
bool is_waiting;

byte occupants;
byte done;                     /* every passage so far */
bool owner_has_been_inside, visitor_has_been_inside;

inline make_visible() {
  if
  :: is_waiting -> inside = buffered; is_waiting = false
  :: else
  fi
}

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

/* The store that lets the others in. What was stored before becomes visible before it. */
inline leave() {
  atomic {
    make_visible();
    inside = false;
    printf("owner: leaves\n");
    inside_carries = (LEAVE == RELEASE -> knows : 0)
  }
}

proctype Owner() {
  byte knows, round;
  bool sees, alone, knows_contents;
  for (round : 1 .. ROUNDS) {
#ifdef MUTANT_LOOK_FIRST
    atomic { sees = visited; acquire(knows, visited_carries, ENTER) };
#endif
    atomic { printf("owner: marks\n"); buffered = true; is_waiting = true };
#ifndef MUTANT_LOOK_FIRST
    atomic {
      sees = visited;
      acquire(knows, visited_carries, ENTER);
      if
      :: is_waiting -> witness(OVERTAKEN)
      :: else
      fi
    };
#endif
    if
    :: !sees ->
       printf("owner: is inside\n");
       atomic {
         owner_has_been_inside = true;
         if
         :: visitor_has_been_inside -> witness(OWNER_ENTERS)
         :: else
         fi
       };
#ifdef MUTANT_OWNER_WRITES_BACK
       visited = sees;
#endif
       pass(knows, 1 << (round - 1))
    :: else -> witness(TURNED_AWAY)
    fi;
    leave()
  }
}

/* The processor of the owner, at any time. */
proctype StoreBuffer() {
end:
  do
  :: atomic { is_waiting -> make_visible() }
  od
}

inline fence() {
#ifndef MUTANT_NO_FENCE
  atomic { make_visible(); printf("visitor %d: fence\n", me) }
#else
  skip
#endif
}

proctype Visitor(byte me) {
  byte knows;
  bool before, sees, alone, knows_contents;
#ifdef MUTANT_FENCE_FIRST
  fence();
#endif
  atomic {
    before = visited;
    visited = true;
    acquire(knows, visited_carries, VISIT_EXCHANGE);
    printf("visitor %d: tells of the visit\n", me)
  };
#ifdef MUTANT_IGNORE_OTHERS
  before = false;
#endif
  if
  :: before
  :: else ->
#ifndef MUTANT_FENCE_FIRST
     fence();
#endif
     atomic { sees = inside; acquire(knows, inside_carries, VISIT_LOAD) };
#ifdef MUTANT_BARGE_IN
     sees = false;
#endif
     if
     :: sees -> witness(GIVES_UP)
     :: else ->
        printf("visitor %d: is inside\n", me);
        visitor_has_been_inside = true;
        pass(knows, 1 << (ROUNDS + me))
     fi;
     atomic {
       visited = false;
       printf("visitor %d: ends the visit\n", me);
       /* A visitor that gave up passes on what it knows, too. */
       visited_carries = (END_VISIT == RELEASE -> visited_carries | knows : 0)
     }
  fi
}

init {
  byte number;
  atomic {
    run Owner();
    run StoreBuffer();
    for (number : 0 .. VISITORS - 1) { run Visitor(number) }
  }
}
