/* SPDX-License-Identifier: MIT
 *
 * The remote-free protocol. Two threads free objects of pages that a third thread owns. The owner
 * allocates from these pages, drains them and gives them back. Every atomic operation of the code
 * is one step here, together with the private operations that follow it. The search explores all
 * interleavings. Memory is sequentially consistent: memory_order.pml covers weaker memory.
 *
 *   Freer (RemoteFree::deliver, Owner::push)     Owner (Owner::take, SizeClass::drain_page)
 *   report local[w] & mask, leave it out
 *   before = remote[w], remote[w] |= mask          taken = queue, queue = 0
 *   previous = announced, announced += n           taken = page.queue_next
 *   previous == 0:                                 n = announced, announced = 0
 *     queue_next = queue                           each word: local |= remote[w], remote[w] = 0
 *     CAS queue: queue_next -> page                used -= n; used == 0: the page is idle
 *
 * The program computes `used` from the bitmap; here it is a number: used = slots - ones(local) +
 * pending. A page of the owner is current, partial, full or idle. The owner allocates from the
 * current page, whose `used` it does not maintain. It may give an idle page back, and the pager may
 * return it. The assertions, by the names that a failed assertion shows:
 *   page_is_ours      no thread accesses the header or a word of a page that was given back. If a
 *                     run reuses the page before the late access, another run has the access
 *                     first. So pages need no generation number here.
 *   handed_out        no slot is issued to two clients
 *   on_queue          no page is on the queue twice
 *   used, pending     not current: used = slots - ones(local) + pending; pending >= 0
 *   place             a page is on the list that it is taken off
 *   reports           a slot that is freed twice is reported exactly once
 *   all_free          no free is lost: in the end, every slot is free and every page idle
 *
 * Switches, apart from those of the mutants (MUTANT_..., each at the place that it breaks):
 *   PAGES=n             pages (1); queue_next needs two to matter
 *   GRANTS=n            objects allocated during a run (3)
 *   EARLY_DRAIN=false   the owner drains a page's words only for a reason, as the code does; by
 *                       default any word at any time, which the protocol also allows
 *   DOUBLE_FREE=REMOTE  both threads free one slot; LOCAL: the owner and a thread do
 *   UNPINNED=true       with DOUBLE_FREE: no live object pins the page until the end
 *   ISSUE_AGAIN=true    with DOUBLE_FREE: the owner may issue the slot again after the second free;
 *                       then the model asserts that two clients never have it
 *   ORDERED=true        with DOUBLE_FREE: one of the two frees is over before the other begins
 *   CLAIMS=true         the owner claims the free slots of a word, after a look at the remote word,
 *                       and issues them one by one
 *   HARDENED=true       a free by the owner also reads the remote word
 *   LOOK_AT_ISSUE=true  so does an allocation
 *   WITNESS=NAME        asserts that NAME never happens; a counterexample proves that the search
 *                       reaches NAME
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
#ifndef ORDERED
#define ORDERED false
#endif
#ifndef CLAIMS
#define CLAIMS false
#endif
#ifndef HARDENED
#define HARDENED false
#endif
#ifndef LOOK_AT_ISSUE
#define LOOK_AT_ISSUE false
#endif

#define REUSE 1           /* a page that was given back is formatted again */
#define EARLY 2           /* a bit is drained before its announcement */
#define QUEUED_AGAIN 3    /* a page is pushed again before its drain is complete */
#define MERGE_REPORT 4    /* a double free is found when words are merged */
#define CALL_REPORT 5     /* a double free is found by the thread that makes it */
#define CAS_RETRY 6       /* a push finds the queue changed */
#define COALESCED 7       /* one OR frees two objects */
#define IDLE_DRAINED 8   /* a queued page is idle already */
#define IDLE_PINNED 9     /* the last look pins an idle page */
#define LOCAL_REPORT 10   /* a double free is found by the look at the local word */
#ifndef WITNESS
#define WITNESS 0
#endif
#define witness(name) assert(WITNESS != name)

#define FREERS 2
#define WORDS 2
#define ALL 3               /* a word with every bit set */
#define SLOTS 4             /* slots of a page */
#define at(p, w) ((p) * WORDS + (w))
#define held_at(t, p, w) ((t) * PAGES * WORDS + at(p, w))
#define ones(mask) (((mask) & 1) + (((mask) >> 1) & 1))
#define lowest(mask) ((mask) & 1 -> 1 : 2)

/* The place of a page. */
#define GONE 0
#define CURRENT 1
#define PARTIAL 2
#define FULL 3
#define IDLE 4

/* State of the code: */
byte local_word[PAGES * WORDS];    /* 1 = free; owner only */
byte remote_word[PAGES * WORDS];   /* 1 = freed by others, not drained */
byte announced[PAGES];
byte queue_next[PAGES];            /* a page's number + 1; 0 = null */
byte used[PAGES];                  /* owner only; 0 while the page is current */
byte pending[PAGES];               /* owner only */
byte place[PAGES];                 /* owner only */
byte queue;
byte claimed;                      /* of word claimed_word of the current page; owner only */
byte claimed_word;                 /* owner only */
#ifdef MUTANT_SUMMARY_BIT
byte summary[PAGES];               /* a bit for each remote word that was freed into */
#endif

/* State of the model alone: */
byte handed_out[PAGES * WORDS];    /* issued slots, until their free takes effect */
byte held[FREERS * PAGES * WORDS]; /* slots that a thread will free */
byte own_held[PAGES * WORDS];      /* slots that the owner will free */
bool page_is_ours[PAGES];
bool on_queue[PAGES];              /* from the push until the owner takes the announcement */
bool pinned;                       /* one object of page 0 lives until the end */
byte grants;
byte freers_done;
byte reports;
byte frees_of_doubled;             /* frees of slot 0 of word 0 of page 0 */
bool doubled_is_under_way;         /* a thread is in the middle of one */

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

#define is_doubled(p, w, slots) ((p) == 0 && (w) == 0 && ((slots) & 1))
#define must_wait(p, w, slots) (ORDERED && doubled_is_under_way && is_doubled(p, w, slots))

inline note_free_of_doubled(page, word, slots) {
  if
  :: ISSUE_AGAIN && frees_of_doubled < 2 && is_doubled(page, word, slots) ->
     frees_of_doubled++
  :: else
  fi
}

/* ---- The owner ------------------------------------------------------------------------------- */

/* The exchange on one remote word, and how the owner applies the bits. */
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

/* An idle page goes back to the pager. The last look at its words pins it if a double free is in
 * transit: the bit counts as used until it is announced. One step holds both the look and the
 * return, so the model assumes that no double free comes between. A legal free cannot be in
 * transit. */
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

/* The end of SizeClass::drain_page, after the last word. */
inline complete_drain(page) {
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
    complete_drain(p);
    count = 0; p = 0; found_some = false
  }
}

inline leave_current(page) {
  assert(page_is_ours[page]);
  claimed = 0;
  used[page] = SLOTS - free_slots(page) + pending[page];
  place[page] = (free_slots(page) == 0 -> FULL : PARTIAL);
  if
  :: used[page] == 0 -> word_emptied(page)
  :: else
  fi
}

/* The slots that may be issued, without the one that will be freed a second time. If that free came
 * after the slot was issued again, it would free another client's object, like a good free. */
#define in_doubt(p, w) \
  (DOUBLE_FREE != NONE && !(ISSUE_AGAIN && frees_of_doubled == 2) && (p) == 0 && (w) == 0 -> 1 : 0)
#define on_offer(p, w) (local_word[at(p, w)] & ~in_doubt(p, w))

/* SizeClass::claim. A claim that meets a slot that another thread freed drains the word first. */
inline claim(page, word) {
#ifndef MUTANT_NO_LOOK_AT_CLAIM
  if
  :: (remote_word[at(page, word)] & local_word[at(page, word)]) -> drain_word(page, word)
  :: else
  fi;
#endif
  claimed = local_word[at(page, word)];
  claimed_word = word;
  printf("owner: claims %d of word %d of page %d\n", claimed, word, page)
}

#define to_issue(p, w) (CLAIMS -> (claimed_word == (w) -> claimed : 0) & on_offer(p, w) \
                               : on_offer(p, w))

inline hand_out(page, word) {
  mask = lowest(to_issue(page, word));
  claimed = claimed & ~mask;
  if
  :: LOOK_AT_ISSUE && (remote_word[at(page, word)] & mask) -> drain_word(page, word)
  :: else
  fi;
  local_word[at(page, word)] = local_word[at(page, word)] & ~mask;
  printf("owner: issues slot %d of word %d of page %d\n", mask - 1, word, page);
  assert((handed_out[at(page, word)] & mask) == 0);
  handed_out[at(page, word)] = handed_out[at(page, word)] | mask;
  grants--;
  if
  :: held[held_at(0, page, word)] = held[held_at(0, page, word)] | mask
  :: held[held_at(1, page, word)] = held[held_at(1, page, word)] | mask
  :: own_held[at(page, word)] = own_held[at(page, word)] | mask
  fi;
  mask = 0
}

inline free_locally(page, word, slot) {
  own_held[at(page, word)] = own_held[at(page, word)] & ~slot;
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
  :: queue != 0 || taken != 0 -> drain_queued_page()
  :: atomic {                                  /* allocate, for a thread or for the owner */
       any_page();
       any_word();
       if
       :: grants > 0 && place[p] == CURRENT && to_issue(p, w) != 0 -> hand_out(p, w)
       :: CLAIMS && grants > 0 && place[p] == CURRENT && claimed == 0 &&
          local_word[at(p, w)] != 0 -> claim(p, w)
       :: else
       fi;
       p = 0; w = 0; found_some = false
     }
  :: atomic {                                  /* free one of the owner's objects */
       any_page();
       any_word();
       if
       :: own_held[at(p, w)] != 0 && !must_wait(p, w, lowest(own_held[at(p, w)])) ->
          mask = lowest(own_held[at(p, w)]);
          free_locally(p, w, mask)
       :: else
       fi;
       p = 0; w = 0; mask = 0; found_some = false
     }
  :: atomic {                                  /* drain early: any word at any time */
       any_page();
       any_word();
       if
       :: EARLY_DRAIN && place[p] != GONE && remote_word[at(p, w)] != 0 ->
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
          complete_drain(p);
          count = 0
       :: else
       fi;
       p = 0; found_some = false
     }
#endif
  :: freers_done == FREERS && queue == 0 && taken == 0 -> break
  od;

  /* The others are done and the queue is empty: the owner frees its last objects. */
  atomic {
    if
    :: pinned -> own_held[at(0, 1)] = own_held[at(0, 1)] | 2; pinned = false
    :: else
    fi;
    for (p : 0 .. PAGES - 1) {
      if
      :: place[p] == CURRENT -> leave_current(p)
      :: else
      fi;
      for (w : 0 .. WORDS - 1) {
        if
        :: own_held[at(p, w)] & 1 -> free_locally(p, w, 1)
        :: else
        fi;
        if
        :: own_held[at(p, w)] & 2 -> free_locally(p, w, 2)
        :: else
        fi
      };
      all_free = (place[p] == GONE || (place[p] == IDLE && announced[p] == 0 && pending[p] == 0
          && used[p] == 0 && free_slots(p) == SLOTS
          && remote_word[at(p, 0)] == 0 && remote_word[at(p, 1)] == 0));
      assert(all_free)
    };
    assert((ISSUE_AGAIN && !LOOK_AT_ISSUE && !ORDERED) || reports == (DOUBLE_FREE != NONE -> 1 : 0))
  }
}

/* ---- A freeing thread ------------------------------------------------------------------------ */

#define holds(t, p, w) (held[held_at(t, p, w)] != 0)
#if PAGES == 1
#define holds_any(t) (holds(t, 0, 0) || holds(t, 0, 1))
#else
#define holds_any(t) (holds(t, 0, 0) || holds(t, 0, 1) || holds(t, 1, 0) || holds(t, 1, 1))
#endif

/* The look at the local word: slots that are free there are reported, and left out. */
inline look_at_local_word() {
#ifndef MUTANT_NO_LOOK_AT_LOCAL
  if
  :: place[p] != GONE && place[p] != IDLE -> before = local_word[at(p, w)] & mask
  :: else
  fi;
  if
  :: before != 0 ->
     assert(DOUBLE_FREE != NONE);
     printf("thread %d: reports a slot that is free at its owner\n", me);
     note_free_of_doubled(p, w, before);
     reports = reports + ones(before);
     mask = mask & ~before;
     before = 0;
     witness(LOCAL_REPORT)
  :: else
  fi
#else
  skip
#endif
}

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

/* The thread first reads seal and tag, and reports an address in no page or in an idle one. Only a
 * double free can meet such a page, since a live object pins its page. The model assumes that the
 * page does not change between this look and the OR; see give_back. */
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
  bool first, is_of_doubled;
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
       if                                      /* one object, or all that it has of the word */
       :: mask = held[held_at(me, p, w)]; if :: mask == ALL -> witness(COALESCED) :: else fi
       :: held[held_at(me, p, w)] == ALL -> mask = 1
       :: held[held_at(me, p, w)] == ALL -> mask = 2
       fi;
       !must_wait(p, w, mask);
       doubled_is_under_way = doubled_is_under_way || (ORDERED && is_doubled(p, w, mask));
       is_of_doubled = is_doubled(p, w, mask);
       held[held_at(me, p, w)] = held[held_at(me, p, w)] & ~mask
     };
#ifdef MUTANT_ANNOUNCE_FIRST
     atomic { n = ones(mask); announce() };
     atomic { free_remotely() };
#else
     atomic { look_at_local_word() };
     if
     :: mask != 0 -> atomic { free_remotely() }
     :: else
     fi;
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
     atomic {
       doubled_is_under_way = doubled_is_under_way && !is_of_doubled;
       p = 0; w = 0; mask = 0; before = 0; n = 0; expected = 0; is_of_doubled = false
     }
  :: grants == 0 && !holds_any(me) -> break
  od;
  freers_done++
}

/* ---- Start ----------------------------------------------------------------------------------- */

init {
  byte p;
  atomic {
    for (p : 0 .. PAGES - 1) { format(p) };
    p = 0;
    grants = GRANTS;
#if DOUBLE_FREE != NONE
    /* Slot 0 of word 0 is freed twice. Thread 0 frees it; thread 1 has the slot beside it and one
     * of the other word. */
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
    own_held[at(0, 0)] = 1;
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
    run Freer(1)
  }
}
