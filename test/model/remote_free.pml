/* SPDX-License-Identifier: MIT
 *
 * The remote-free protocol: two threads free objects of pages that a third thread owns, allocates
 * from, drains and gives back. Every atomic operation of the code is one step here, what is private
 * to a thread rides along with the step before it; all interleavings are explored. Memory is
 * sequentially consistent: memory_order.pml is about weaker memory.
 *
 *   Freer (RemoteFree::deliver, Owner::push)     Owner (Owner::take, SizeClass::drain_page)
 *   before = remote[w], remote[w] |= mask          taken = queue, queue = 0
 *   previous = announced, announced += n           taken = page.queue_next
 *   previous == 0:                                 n = announced, announced = 0
 *     queue_next = queue                           each word: local |= remote[w], remote[w] = 0
 *     CAS queue: queue_next -> page                used -= n; used == 0: the page is idle
 *
 * What the program asks the bitmap is a number here: used = slots - ones(local) + pending.
 * A page of the owner is current (allocated from; its `used` is not kept), partial, full or idle; an
 * idle page may be given back, and the pager may return it. What is asserted, by the names that a
 * failed assertion shows:
 *   page_is_ours      nobody touches the header or a word of a page that was given back. Every run in
 *                     which the page is reused before the late access has a sibling in which the access
 *                     comes first, so pages need no generation number here.
 *   handed_out        no slot is handed to two clients
 *   on_queue          no page is on the queue twice
 *   used, pending     not current: used = slots - ones(local) + pending; pending >= 0
 *   place             a page is taken off the list that it is on
 *   reports           a slot that is freed twice is reported exactly once
 *   purging           no slot is handed out whose contents a scavenger is dropping
 *   all_free          no free is lost: when everyone is done every slot is free and every page idle
 *
 * Switches, apart from those of the mutants (MUTANT_..., each at the place that it breaks):
 *   PAGES=n             pages (1); it takes two for queue_next to matter
 *   GRANTS=n            objects allocated during a run (3)
 *   EARLY_DRAIN=false
 *                       the owner drains the words of a page only when it has a reason, as the code
 *                       does; by default any word at any time, which the protocol allows, too
 *   DOUBLE_FREE=REMOTE  both threads free one slot; LOCAL: the owner and a thread do
 *   UNPINNED=true       with DOUBLE_FREE: no live object keeps the page until the end
 *   ISSUE_AGAIN=true    with DOUBLE_FREE: the slot may be issued again after the second free; what is
 *                       asserted then is that it does not come to two clients
 *   HARDENED=true       a free by the owner looks at the remote word, too
 *   LOOK_AT_ISSUE=true  so does an allocation
 *   SCAVENGES=n            a scavenger purges so many times (0): of a queued page the slots whose remote bit is set, and
 *                       the local one is not. The lock that keeps it apart from the owner's draining
 *                       (asymmetric_lock.pml) is one step here.
 *   WITNESS=NAME        asserts that NAME never happens; the run that shows it proves that the search
 *                       gets there
 */

#ifndef PAGES
#define PAGES 1
#endif
#ifndef GRANTS
#define GRANTS 3
#endif

#ifndef EARLY_DRAIN
#define EARLY_DRAIN true
#endif

#define NONE 0
#define REMOTE 1
#define LOCAL 2
#ifndef DOUBLE_FREE
#define DOUBLE_FREE NONE
#endif
#ifndef UNPINNED
#define UNPINNED false
#endif
#ifndef ISSUE_AGAIN
#define ISSUE_AGAIN false
#endif
#ifndef HARDENED
#define HARDENED false
#endif
#ifndef LOOK_AT_ISSUE
#define LOOK_AT_ISSUE false
#endif
#ifndef SCAVENGES
#define SCAVENGES 0
#endif

#define REUSE 1           /* a page that was given back is formatted again */
#define EARLY 2           /* a bit is drained whose announcement is still to come */
#define QUEUED_AGAIN 3    /* a page is pushed again before the owner has settled it */
#define MERGE_REPORT 4    /* a double free is found when words are merged */
#define CALL_REPORT 5     /* a double free is found by the thread that makes it */
#define CAS_RETRY 6       /* a push finds the queue changed */
#define COALESCED 7       /* one OR frees two objects */
#define IDLE_DRAINED 8   /* a queued page turns out to be idle */
#define IDLE_PINNED 9     /* the last look keeps an idle page from being given back */
#define PURGED 10         /* a slot is handed out again that was purged */
#ifndef WITNESS
#define WITNESS 0
#endif
#define witness(name) assert(WITNESS != name)

#define FREERS 2
#define WORDS 2
#define ALL 3               /* a word with every bit set */
#define SLOTS 4             /* of a page */
#define at(p, w) ((p) * WORDS + (w))
#define held_at(t, p, w) ((t) * PAGES * WORDS + at(p, w))
#define ones(mask) (((mask) & 1) + (((mask) >> 1) & 1))
#define lowest(mask) ((mask) & 1 -> 1 : 2)

/* Where a page is. */
#define GONE 0
#define CURRENT 1
#define PARTIAL 2
#define FULL 3
#define IDLE 4

/* What the code has: */
byte local_word[PAGES * WORDS];    /* 1 = free; owner only */
byte remote_word[PAGES * WORDS];   /* 1 = freed by others, not drained */
byte announced[PAGES];
byte queue_next[PAGES];            /* a page's number + 1; 0 = null */
byte used[PAGES];                  /* owner only; 0 while the page is current */
byte pending[PAGES];               /* owner only */
byte place[PAGES];                 /* owner only */
byte queue;
#ifdef MUTANT_SUMMARY_BIT
byte summary[PAGES];               /* a bit for each remote word that was freed into */
#endif

/* What only the model knows: */
byte handed_out[PAGES * WORDS];    /* slots a client has, until its free takes effect */
byte held[FREERS * PAGES * WORDS]; /* slots a thread is to free */
byte kept[PAGES * WORDS];          /* slots the owner is to free */
bool page_is_ours[PAGES];
bool on_queue[PAGES];              /* from the push until the owner has taken the announcement */
bool pinned;                       /* one object of page 0 lives until the end */
byte grants;
byte freers_done;
#if SCAVENGES > 0
byte purging[PAGES * WORDS];       /* slots whose contents are being dropped */
byte purged[PAGES * WORDS];        /* slots whose contents were, not handed out since */
bool owner_drains, scavenger_is_there;
#define may_drain (!scavenger_is_there)
#else
#define may_drain true
#endif
byte reports;
byte frees_of_doubled;             /* of slot 0 of word 0 of page 0 */

#define free_slots(p) (ones(local_word[at(p, 0)]) + ones(local_word[at(p, 1)]))

inline equation(page) {
  assert(place[page] == CURRENT || used[page] == SLOTS - free_slots(page) + pending[page])
}

inline format(page) {
  local_word[at(page, 0)] = ALL;
  local_word[at(page, 1)] = ALL;
  remote_word[at(page, 0)] = 0;
  remote_word[at(page, 1)] = 0;
  announced[page] = 0;
  queue_next[page] = 0;
  used[page] = 0;
  pending[page] = 0;
  page_is_ours[page] = true;
  place[page] = IDLE
}

inline note_free_of_doubled(page, word, slots) {
  if
  :: ISSUE_AGAIN && frees_of_doubled < 2 && page == 0 && word == 0 && ((slots) & 1) ->
     frees_of_doubled++
  :: else
  fi
}

/* ---- The owner -------------------------------------------------------------------------------- */

/* The exchange on one remote word and what the owner does with the bits. */
inline drain_word(page, word) {
  assert(page_is_ours[page]);
#ifdef MUTANT_DRAIN_BY_STORE
  skip                       /* the load was an earlier step */
#else
  bits = remote_word[at(page, word)];
#endif
  remote_word[at(page, word)] = 0;
  printf("owner: drains %d of word %d of page %d\n", bits, word, page);
  again = bits & local_word[at(page, word)];
  found_some = found_some || bits != again;
  local_word[at(page, word)] = local_word[at(page, word)] | bits;
#if defined(MUTANT_SUMMARY_BIT) || defined(MUTANT_COUNT_DRAINED_BITS)
  if
  :: place[page] != CURRENT -> used[page] = used[page] - ones(bits)
  :: else
  fi;
#else
  pending[page] = pending[page] + ones(bits);
#endif
  if
  :: again != 0 ->
     reports = reports + ones(again);
     printf("owner: reports a double free\n");
     witness(MERGE_REPORT);
#ifndef MUTANT_MERGE_FORGETS_DOUBLE
     if
     :: place[page] != CURRENT -> used[page] = used[page] + ones(again)
     :: else
     fi
#endif
  :: else
  fi;
  if
  :: bits != 0 && place[page] == FULL && found_some -> place[page] = PARTIAL
  :: else
  fi;
  bits = 0; again = 0
}

/* SizeClass::word_emptied: a free by the owner brought `used` to 0. */
inline word_emptied(page) {
  drain_word(page, 0);
  drain_word(page, 1);
  equation(page);
  if
  :: used[page] == 0 ->
     printf("owner: page %d is idle\n", page);
     assert(place[page] == PARTIAL);
     place[page] = IDLE
  :: else
  fi
}

/* An idle page goes back to the pager. The last look at its words keeps it if a double free is on its
 * way: the bit counts as used until it is announced. That no double free falls between this look and
 * the give-back is an assumption, made by having both in one step; a legal free cannot be on its way. */
inline give_back(page) {
#ifndef MUTANT_NO_LAST_LOOK
  drain_word(page, 0);
  drain_word(page, 1);
  equation(page);
#endif
  if
  :: used[page] == 0 ->
     printf("owner: gives page %d back\n", page);
     place[page] = GONE;
     page_is_ours[page] = false;
     local_word[at(page, 0)] = 0; local_word[at(page, 1)] = 0
  :: else -> place[page] = PARTIAL; witness(IDLE_PINNED)
  fi
}

inline take_announcement(page) {
  assert(page_is_ours[page]);
#ifdef MUTANT_SUMMARY_BIT
  count = summary[page]; summary[page] = 0;
#else
  count = announced[page]; announced[page] = 0;
#endif
  printf("owner: takes announced = %d of page %d\n", count, page);
  on_queue[page] = false
}

/* What SizeClass::drain_page does after the last word. */
inline settle(page) {
  if
  :: on_queue[page] -> witness(QUEUED_AGAIN)
  :: else
  fi;
#if defined(MUTANT_SUMMARY_BIT) || defined(MUTANT_COUNT_DRAINED_BITS)
  count = 0;
#endif
  assert(pending[page] >= count);
  pending[page] = pending[page] - count;
  if
  :: place[page] == CURRENT
  :: else ->
     assert(used[page] >= count);
     used[page] = used[page] - count;
     equation(page);
     if
#ifndef MUTANT_RETIRE_IDLE
     :: place[page] == IDLE -> witness(IDLE_DRAINED)     /* a double free: it stays where it is */
#endif
     :: place[page] != IDLE && used[page] != 0
     :: else ->
        printf("owner: page %d is idle\n", page);
        assert(place[page] == PARTIAL);
        place[page] = IDLE
     fi
  fi
}

#ifdef MUTANT_SUMMARY_BIT
#define to_drain(word) ((count >> (word)) & 1)
#else
#define to_drain(word) true
#endif

/* Takes one page off the queue and drains it. */
inline drain_queued_page() {
  if
  :: taken == 0 -> atomic { taken = queue; queue = 0; printf("owner: takes the queue\n") }
  :: else
  fi;
  atomic { p = taken - 1; assert(page_is_ours[p]) };
#ifndef MUTANT_LINK_AFTER_ANNOUNCED
  taken = queue_next[p];
  atomic { take_announcement(p) };
#else
  atomic { take_announcement(p) };
  taken = queue_next[p];
#endif
#ifdef MUTANT_DRAIN_BY_STORE
  bits = remote_word[at(p, 0)];
#endif
  if
  :: to_drain(0) -> atomic { drain_word(p, 0) }
  :: else
  fi;
#ifdef MUTANT_DRAIN_BY_STORE
  bits = remote_word[at(p, 1)];
#endif
  atomic {
    if
    :: to_drain(1) -> drain_word(p, 1)
    :: else
    fi;
    settle(p);
    count = 0; p = 0; found_some = false
  }
}

inline leave_current(page) {
  assert(page_is_ours[page]);
  used[page] = SLOTS - free_slots(page) + pending[page];
  place[page] = (free_slots(page) == 0 -> FULL : PARTIAL);
  if
  :: used[page] == 0 -> word_emptied(page)
  :: else
  fi
}

/* The slots that may be handed out. Not the one that is to be freed a second time: such a free, when it
 * comes after the slot was handed out again, is the free of someone else's object and cannot be told
 * from a good one. */
#define in_doubt(p, w) \
  (DOUBLE_FREE != NONE && !(ISSUE_AGAIN && frees_of_doubled == 2) && (p) == 0 && (w) == 0 -> 1 : 0)
#define on_offer(p, w) (local_word[at(p, w)] & ~in_doubt(p, w))

inline hand_out(page, word) {
  mask = lowest(on_offer(page, word));
  if
  :: LOOK_AT_ISSUE && (remote_word[at(page, word)] & mask) -> drain_word(page, word)
  :: else
  fi;
  local_word[at(page, word)] = local_word[at(page, word)] & ~mask;
  printf("owner: issues slot %d of word %d of page %d\n", mask - 1, word, page);
  assert((handed_out[at(page, word)] & mask) == 0);
  handed_out[at(page, word)] = handed_out[at(page, word)] | mask;
#if SCAVENGES > 0
  assert((purging[at(page, word)] & mask) == 0);
  if
  :: purged[at(page, word)] & mask -> witness(PURGED)
  :: else
  fi;
#endif
  grants--;
  if
  :: held[held_at(0, page, word)] = held[held_at(0, page, word)] | mask
  :: held[held_at(1, page, word)] = held[held_at(1, page, word)] | mask
  :: kept[at(page, word)] = kept[at(page, word)] | mask
  fi;
  mask = 0
}

inline free_locally(page, word, slot) {
  kept[at(page, word)] = kept[at(page, word)] & ~slot;
  note_free_of_doubled(page, word, slot);
  handed_out[at(page, word)] = handed_out[at(page, word)] & ~slot;
  printf("owner: frees slot %d of word %d of page %d\n", slot - 1, word, page);
  if
  :: place[page] == GONE ->                                   /* its seal is gone */
     assert(UNPINNED);
     reports++
  :: (place[page] == IDLE || (local_word[at(page, word)] & slot)
      || (HARDENED && place[page] != GONE && (remote_word[at(page, word)] & slot))) ->
     good_free_is_reported = (DOUBLE_FREE != LOCAL);
     assert(!good_free_is_reported);
     reports++
  :: else ->
     local_word[at(page, word)] = local_word[at(page, word)] | slot;
     if
     :: place[page] == CURRENT
     :: else ->
        assert(used[page] >= 1);
        used[page] = used[page] - 1;
        place[page] = PARTIAL;
        equation(page);
        if
        :: used[page] == 0 -> word_emptied(page)
        :: else
        fi
     fi
  fi
}

inline any_page() { p = 0; if :: true :: PAGES > 1 -> p = PAGES - 1 fi }
inline any_word() { w = 0; if :: true :: w = 1 fi }

proctype Owner() {
  byte p, w, mask, taken, count, bits, again;
  bool found_some, all_free, has_current, good_free_is_reported;
  do
#if SCAVENGES == 0
  :: queue != 0 || taken != 0 -> drain_queued_page()
#else
#ifdef MUTANT_DRAIN_DURING_SCAVENGING
  :: atomic { queue != 0 || taken != 0 -> owner_drains = true };
#else
  :: atomic { (queue != 0 || taken != 0) && may_drain -> owner_drains = true };
#endif
     drain_queued_page();
     owner_drains = false
#endif
  :: atomic {                                  /* allocate, for a thread or for the owner */
       any_page();
       any_word();
       if
       :: grants > 0 && place[p] == CURRENT && on_offer(p, w) != 0 -> hand_out(p, w)
       :: else
       fi;
       p = 0; w = 0
     }
  :: atomic {                                  /* free one of the owner's objects */
       any_page();
       any_word();
       if
       :: kept[at(p, w)] != 0 -> mask = lowest(kept[at(p, w)]); free_locally(p, w, mask)
       :: else
       fi;
       p = 0; w = 0; mask = 0; found_some = false
     }
  :: atomic {                                  /* drain early: any word at any time */
       any_page();
       any_word();
       if
       :: EARLY_DRAIN && may_drain && place[p] != GONE && remote_word[at(p, w)] != 0 ->
          drain_word(p, w);
          equation(p);
          if
          :: pending[p] > announced[p] -> witness(EARLY)
          :: else
          fi
       :: else
       fi;
       p = 0; w = 0; found_some = false
     }
  :: atomic {                                  /* start or stop allocating from a page */
       any_page();
       if
       :: place[p] == CURRENT -> leave_current(p); has_current = false
       :: !has_current && (place[p] == PARTIAL || place[p] == IDLE) ->
          place[p] = CURRENT; used[p] = 0; has_current = true
       :: else
       fi;
       p = 0; found_some = false
     }
  :: atomic {                                  /* a page to the pager or back */
       any_page();
       if
       :: place[p] == IDLE -> give_back(p)
       :: place[p] == GONE -> format(p); witness(REUSE)
       :: else
       fi;
       p = 0; found_some = false
     }
#ifdef MUTANT_TAKE_WITHOUT_DEQUEUE
  :: atomic {
       any_page();
       if
       :: place[p] != GONE && announced[p] != 0 ->
          count = announced[p]; announced[p] = 0;
          drain_word(p, 0);
          drain_word(p, 1);
          settle(p);
          count = 0
       :: else
       fi;
       p = 0; found_some = false
     }
#endif
  :: freers_done == FREERS && queue == 0 && taken == 0 -> break
  od;

  /* Everyone else is done and the queue is empty: the owner frees its last objects. */
  atomic {
    if
    :: pinned -> kept[at(0, 1)] = kept[at(0, 1)] | 2; pinned = false
    :: else
    fi;
    for (p : 0 .. PAGES - 1) {
      if
      :: place[p] == CURRENT -> leave_current(p)
      :: else
      fi;
      for (w : 0 .. WORDS - 1) {
        if
        :: kept[at(p, w)] & 1 -> free_locally(p, w, 1)
        :: else
        fi;
        if
        :: kept[at(p, w)] & 2 -> free_locally(p, w, 2)
        :: else
        fi
      };
      all_free = (place[p] == GONE || (place[p] == IDLE && announced[p] == 0 && pending[p] == 0
          && used[p] == 0 && free_slots(p) == SLOTS
          && remote_word[at(p, 0)] == 0 && remote_word[at(p, 1)] == 0));
      assert(all_free)
    };
    assert((ISSUE_AGAIN && !LOOK_AT_ISSUE) || reports == (DOUBLE_FREE != NONE -> 1 : 0))
  }
}

/* ---- A freeing thread ------------------------------------------------------------------------- */

#define holds(t, p, w) (held[held_at(t, p, w)] != 0)
#if PAGES == 1
#define holds_any(t) (holds(t, 0, 0) || holds(t, 0, 1))
#else
#define holds_any(t) (holds(t, 0, 0) || holds(t, 0, 1) || holds(t, 1, 0) || holds(t, 1, 1))
#endif

inline or_into_remote_word() {
  printf("thread %d: sets %d in remote word %d of page %d\n", me, mask, w, p);
  before = remote_word[at(p, w)] & mask;
  remote_word[at(p, w)] = remote_word[at(p, w)] | mask;
  note_free_of_doubled(p, w, mask);
  handed_out[at(p, w)] = handed_out[at(p, w)] & ~mask;
  if
  :: before != 0 ->
     printf("thread %d: reports a double free\n", me);
     reports = reports + ones(before);
     witness(CALL_REPORT)
  :: else
  fi;
#ifdef MUTANT_ANNOUNCE_DOUBLES
  n = ones(mask)
#else
  n = ones(mask & ~before)
#endif
}

/* The thread looks at seal and tag first and reports an address in no page or in an idle one, which
 * only a double free can meet: a live object keeps its page. That the page stays what it is between
 * this look and the OR is the assumption made at give_back. */
inline free_remotely() {
  if
  :: (place[p] == GONE || place[p] == IDLE) ->
     assert(UNPINNED && DOUBLE_FREE != NONE);
     note_free_of_doubled(p, w, mask);
     printf("thread %d: reports a free in a page without live objects\n", me);
     reports++
  :: else -> or_into_remote_word()
  fi
}

inline announce() {
  printf("thread %d: announces %d of page %d\n", me, n, p);
  assert(page_is_ours[p]);
#ifdef MUTANT_SUMMARY_BIT
  first = (summary[p] == 0);
  summary[p] = summary[p] | (1 << w);
#else
  first = (announced[p] == 0);
  announced[p] = announced[p] + n;
#endif
#ifdef MUTANT_PUSH_ALWAYS
  first = true
#endif
}

proctype Freer(byte me) {
  byte p, w, mask, before, n, expected;
  bool first;
  do
  :: atomic {
       holds_any(me) ->
       if
       :: holds(me, 0, 0) -> p = 0; w = 0
       :: holds(me, 0, 1) -> p = 0; w = 1
#if PAGES > 1
       :: holds(me, 1, 0) -> p = 1; w = 0
       :: holds(me, 1, 1) -> p = 1; w = 1
#endif
       fi;
       if                                      /* one object, or all it has of the word */
       :: mask = held[held_at(me, p, w)]; if :: mask == ALL -> witness(COALESCED) :: else fi
       :: held[held_at(me, p, w)] == ALL -> mask = 1
       :: held[held_at(me, p, w)] == ALL -> mask = 2
       fi;
       held[held_at(me, p, w)] = held[held_at(me, p, w)] & ~mask
     };
#ifdef MUTANT_ANNOUNCE_FIRST
     atomic { n = ones(mask); announce() };
     atomic { free_remotely() };
#else
     atomic { free_remotely() };
     if
     :: n != 0 -> atomic { announce() }
     :: else
     fi;
#endif
     do
     :: first ->
        expected = queue;
        atomic { assert(page_is_ours[p]); queue_next[p] = expected };
        atomic {
          if
          :: queue == expected ->
             printf("thread %d: pushes page %d\n", me, p);
             assert(!on_queue[p]);
             on_queue[p] = true;
             queue = p + 1;
             first = false
          :: else -> witness(CAS_RETRY)
          fi
        }
     :: else -> break
     od;
#ifdef MUTANT_TOUCH_AFTER_ANNOUNCE
     assert(page_is_ours[p]);
#endif
     atomic { p = 0; w = 0; mask = 0; before = 0; n = 0; expected = 0 }
  :: grants == 0 && !holds_any(me) -> break
  od;
  freers_done++
}

/* ---- A scavenger -------------------------------------------------------------------------------- */

#if SCAVENGES > 0
inline purge(word) {
#ifdef MUTANT_PURGE_ANY_FREE
  purging[at(p, word)] = remote_word[at(p, word)] | local_word[at(p, word)];
#else
  purging[at(p, word)] = remote_word[at(p, word)] & ~local_word[at(p, word)];
#endif
  purged[at(p, word)] = purging[at(p, word)]
}

proctype Scavenger() {
  byte p, scavenging = SCAVENGES;
  do
  :: scavenging > 0 && freers_done < FREERS ->
     atomic {
       any_page();
       if
       :: on_queue[p] && !owner_drains ->
          scavenger_is_there = true;
          assert(page_is_ours[p]);
          printf("scavenger: purges page %d\n", p);
          purge(0);
          purge(1)
       :: else
       fi
     };
     atomic {
       assert(!scavenger_is_there || page_is_ours[p]);
       purging[at(p, 0)] = 0;
       purging[at(p, 1)] = 0;
       scavenger_is_there = false;
       p = 0;
       scavenging--
     }
  :: break
  od
}
#endif

/* ---- Start ------------------------------------------------------------------------------------ */

init {
  byte p;
  atomic {
    for (p : 0 .. PAGES - 1) { format(p) };
    p = 0;
    grants = GRANTS;
#if DOUBLE_FREE != NONE
    /* Slot 0 of word 0 is freed twice. Thread 0 frees it; thread 1 has the slot beside it and one of
     * the other word. */
    local_word[at(0, 0)] = 0;
    local_word[at(0, 1)] = 0;
    used[0] = SLOTS;
    place[0] = FULL;
    handed_out[at(0, 0)] = ALL;
    handed_out[at(0, 1)] = ALL;
    held[held_at(0, 0, 0)] = 1;
    held[held_at(1, 0, 1)] = 1;
#if DOUBLE_FREE == REMOTE
    held[held_at(1, 0, 0)] = 3;
#else
    held[held_at(1, 0, 0)] = 2;
    kept[at(0, 0)] = 1;
#endif
    if
    :: UNPINNED ->
       local_word[at(0, 1)] = 2;
       handed_out[at(0, 1)] = 1;
       used[0] = SLOTS - 1;
       place[0] = PARTIAL
    :: else -> pinned = true
    fi;
#endif
    run Owner();
    run Freer(0);
    run Freer(1);
#if SCAVENGES > 0
    run Scavenger()
#endif
  }
}
