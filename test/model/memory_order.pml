/* SPDX-License-Identifier: MIT
 *
 * The memory orders of the remote-free protocol. Two threads free one object each of a page. The
 * owner drains repeatedly, uses the slots again, and gives the page back, whose next user formats
 * it. Each order is a switch; weakening any of them produces a counterexample.
 *
 * The model of weak memory. Only read-modify-writes change the shared words, and they always read
 * the latest value. So these operations interleave, and an order only decides which thread knows
 * what:
 *   - every access to plain memory, and every access to the page, is an event, one bit;
 *   - a thread knows the events that happen before its next step;
 *   - a release adds its thread's knowledge to the word;
 *   - an acquire adds the word's knowledge to its thread;
 *   - a relaxed read-modify-write leaves the word's knowledge as it was (C++20 release sequences);
 *   - an access to plain memory must know every earlier conflicting access (else: data race);
 *   - a relaxed load may miss a change that its thread does not know.
 * That covers every execution of C++20 in which no read precedes the write that its value depends
 * on (no cycle of program order and reads-from).
 *
 * The assertions, by the names that a failed assertion shows:
 *   knows_object      a slot's next use happens after the last use before its free
 *   knows_link        queue_next is read after it was written, and written again after it was read
 *   knows_accesses    the page's next user formats it after every access of the freeing threads
 *   knows_format      a freeing thread reads the header after it was formatted
 *   knows_zone        a zone's next thread sees all changes by the thread before
 *   knows_setup       a thread that sees a published pointer sees the whole object
 *   page_is_ours      no access to the page after it was given back
 *   pending           pending >= 0: the owner sees the bits of an announcement with it
 */

#define RELAXED 0
#define ACQUIRE 1
#define RELEASE 2
#define ACQ_REL 3

/* The orders in the code: */
#ifndef DELIVER_FETCH_OR
#define DELIVER_FETCH_OR RELEASE       /* RemoteFree::deliver, on remote[w] */
#endif
#ifndef DELIVER_FETCH_ADD
#define DELIVER_FETCH_ADD ACQ_REL      /* RemoteFree::deliver, on announced */
#endif
#ifndef PUSH
#define PUSH RELEASE                   /* Owner::push, on queue */
#endif
#ifndef TAKE
#define TAKE ACQUIRE                   /* Owner::take, on queue */
#endif
#ifndef DRAIN_PAGE
#define DRAIN_PAGE ACQ_REL                 /* SizeClass::drain_page, on announced */
#endif
#ifndef DRAIN_BITS
#define DRAIN_BITS ACQUIRE                /* SizeClass::drain_remote_bits, on remote[w] */
#endif
#ifndef PUBLISH
#define PUBLISH RELEASE                /* set_misuse_handler and other publications */
#endif
#ifndef OBSERVE
#define OBSERVE ACQUIRE                /* report_misuse and its like */
#endif
#ifndef UNLOCK
#define UNLOCK RELEASE                 /* os::Mutex::unlock, for a zone or a frame */
#endif
#ifndef LOCK
#define LOCK ACQUIRE                   /* os::Mutex::lock */
#endif

/* An order that the client must provide: */
#ifndef CLIENT
#define CLIENT ACQ_REL                 /* a thread gives an object to another */
#endif

/* Events. A freeing thread `t` is 0 or 1. */
#define FORMAT 1
#define ZONE 2                /* the owner's change of the zone's own data */
#define SETUP 4               /* writing the published object */
#define OBJECT(t) (8 << (t))  /* the last use of the object */
#define OR(t) (32 << (t))
#define TAG(t) (128 << (t))
#define ADD(t) (512 << (t))
#define LINK(t) (2048 << (t)) /* queue_next written */
#define READ 8192             /* queue_next read by the owner, the first time */
#define READ_AGAIN 16384      /* and the second */

int done;                     /* every event so far */
int owner_knows;
int freer_knows[2];
int published_carries;
int mutex_carries;
int queue_carries;
int announced_carries;
int remote_carries[2];

#define accesses (OR(0) | OR(1) | TAG(0) | TAG(1) | ADD(0) | ADD(1) | LINK(0) | LINK(1))
#define links (LINK(0) | LINK(1))
#define link_reads (READ | READ_AGAIN)

/* State of the code. Bit t of a remote word is the slot of thread t's object. */
byte remote_word[2];
byte announced;
bool queue;                   /* true if the only page is queued */
byte used = 2;
byte pending;
bool page_is_ours = true;
bool published;

inline does(knows, event) {
  done = done | (event);
  knows = knows | (event)
}

/* A read-modify-write of a word that carries `carries`. */
inline synchronize(knows, carries, order) {
  if
  :: (order) & ACQUIRE -> knows = knows | carries
  :: else
  fi;
  if
  :: (order) & RELEASE -> carries = carries | knows
  :: else
  fi
}

/* True if `knows` has every one of `events` so far. */
#define knows_all(knows, events) ((done & (events) & ~(knows)) == 0)

/* ---- The owner ------------------------------------------------------------------------------- */

inline own_step() {
  knows_zone = knows_all(owner_knows, ZONE);
  assert(knows_zone)
}

/* The next holder of the mutex gets the owner's knowledge, and has no other. */
inline hand_over() {
  synchronize(owner_knows, mutex_carries, UNLOCK);
  owner_knows = 0;
  synchronize(owner_knows, mutex_carries, LOCK)
}

#define knows_bits(word) \
  (((remote_word[word] & 1) && (owner_knows & OR(0))) || \
   ((remote_word[word] & 2) && (owner_knows & OR(1))))

/* SizeClass::drain_remote_bits on one word: a relaxed load, then an exchange. The slots are used.
 * */
inline drain_word(word) {
  own_step();
  if
  :: remote_word[word] == 0
  :: remote_word[word] != 0 && !knows_bits(word) ->        /* a load may miss it */
     printf("owner: sees no bit in word %d\n", word)
  :: remote_word[word] != 0 ->
     printf("owner: drains %d of word %d, and issues it again\n", remote_word[word], word);
     synchronize(owner_knows, remote_carries[word], DRAIN_BITS);
     if
     :: remote_word[word] & 1 ->
        pending++;
        knows_object = knows_all(owner_knows, OBJECT(0));
        assert(knows_object)
     :: else
     fi;
     if
     :: remote_word[word] & 2 ->
        pending++;
        knows_object = knows_all(owner_knows, OBJECT(1));
        assert(knows_object)
     :: else
     fi;
     remote_word[word] = 0
  fi
}

proctype Owner() {
  byte count;
  bool knows_zone, knows_object, knows_link, knows_accesses;
  bool adopted;
  do
  :: queue ->
     /* Owner::take */
     atomic {
       own_step();
       printf("owner: takes the queue\n");
       synchronize(owner_knows, queue_carries, TAKE);
       queue = false
     };
     atomic {
       printf("owner: reads the link\n");
       assert(page_is_ours);
       knows_link = knows_all(owner_knows, links);
       assert(knows_link);
       if
       :: done & READ -> does(owner_knows, READ_AGAIN)
       :: else -> does(owner_knows, READ)
       fi
     };
     /* SizeClass::drain_page */
     atomic {
       own_step();
       synchronize(owner_knows, announced_carries, DRAIN_PAGE);
       count = announced;
       announced = 0;
       printf("owner: takes announced = %d\n", count)
     };
     atomic { drain_word(0) };
     atomic {
       drain_word(1);
       assert(pending >= count);
       pending = pending - count;
       used = used - count;
       count = 0
     }
  :: page_is_ours -> atomic { drain_word(0) }            /* at any time */
  :: page_is_ours -> atomic { drain_word(1) }
  :: !adopted ->
     /* Another thread takes the zone over, under a mutex. */
     atomic {
       printf("owner: another thread adopts the zone\n");
       does(owner_knows, ZONE);
       hand_over();
       adopted = true
     }
  :: used == 0 ->
     /* The pager, under a mutex, gives the page to its next user, who formats it. */
     atomic {
       printf("owner: gives the page back, to be formatted by someone else\n");
       own_step();
       page_is_ours = false;
       hand_over();
       knows_accesses = knows_all(owner_knows, accesses);
       assert(knows_accesses);
       break
     }
  od
}

/* ---- A freeing thread ------------------------------------------------------------------------ */

inline access(event) {
  assert(page_is_ours);
  does(freer_knows[me], event)
}

proctype Freer(byte me) {
  byte word;
  bool first, knows_link, knows_format;
  if
  :: word = 0
  :: word = 1
  fi;
  does(freer_knows[me], OBJECT(me));
  /* RemoteFree::deliver */
  atomic {
    knows_format = knows_all(freer_knows[me], FORMAT);
    assert(knows_format);
    printf("thread %d: reads the header\n", me);
    access(TAG(me))
  };
  atomic {
    printf("thread %d: sets its bit in word %d\n", me, word);
    access(OR(me));
    synchronize(freer_knows[me], remote_carries[word], DELIVER_FETCH_OR);
    remote_word[word] = remote_word[word] | (1 << me)
  };
  atomic {
    printf("thread %d: announces\n", me);
    access(ADD(me));
    synchronize(freer_knows[me], announced_carries, DELIVER_FETCH_ADD);
    first = (announced == 0);
    announced++
  };
  if
  :: first ->
     /* Owner::push: if its relaxed load of the queue is stale, the compare fails and repeats. */
     atomic {
       printf("thread %d: writes the link\n", me);
       knows_link = knows_all(freer_knows[me], links | link_reads);
       assert(knows_link);
       access(LINK(me))
     };
     atomic {
       printf("thread %d: pushes the page\n", me);
       assert(!queue);
       synchronize(freer_knows[me], queue_carries, PUSH);
       queue = true
     }
  :: else
  fi
}

/* ---- Publication ----------------------------------------------------------------------------- */

proctype Publisher() {
  int knows;
  does(knows, SETUP);
  atomic { synchronize(knows, published_carries, PUBLISH); published = true }
}

proctype Observer() {
  int knows;
  bool knows_setup;
  atomic {
    published ->
    synchronize(knows, published_carries, OBSERVE);
    knows_setup = knows_all(knows, SETUP);
    assert(knows_setup)
  }
}

init {
  atomic {
    does(owner_knows, FORMAT);
    freer_knows[0] = (CLIENT == ACQ_REL -> owner_knows : 0);
    freer_knows[1] = (CLIENT == ACQ_REL -> owner_knows : 0);
    run Owner();
    run Freer(0);
    run Freer(1);
    run Publisher();
    run Observer()
  }
}
