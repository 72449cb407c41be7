# SPDX-License-Identifier: MIT
"""Objects of many kinds and lifetimes; prints the same on every run."""

import collections
import hashlib
import json
import queue
import random
import re
import threading

ROUNDS = 3


class Node:
    """A node of a binary tree with a reference to its parent: freed by the cycle collector."""

    def __init__(self, parent, depth):
        self.parent = parent
        self.children = [Node(self, depth - 1) for _ in range(2)] if depth else []

    def count(self):
        return 1 + sum(child.count() for child in self.children)


def trees():
    return [Node(None, 12).count() for _ in range(5)]


def documents(source):
    rows = [{"key": f"k{source.randrange(10**6):06}", "values": [source.random() for _ in range(5)],
             "text": "x" * source.randrange(200), "nested": {"a": None, "b": [True, index]}}
            for index in range(12000)]
    text = json.dumps(rows)
    again = json.loads(text)
    again.sort(key=lambda row: (row["key"], row["nested"]["b"][1]))
    return hashlib.sha256(json.dumps(again).encode()).hexdigest()


def words(source):
    text = " ".join("".join(source.choice("abcdefgh") for _ in range(source.randrange(1, 7)))
                    for _ in range(60000))
    counts = collections.Counter(re.findall(r"\b[a-h]+\b", text))
    replaced = re.sub(r"(a+)(b*)", lambda match: match.group(2) + match.group(1).upper(), text)
    return counts.most_common(5), hashlib.sha256(replaced.encode()).hexdigest()


def windows(source):
    """Objects that die in the order they were made, of sizes from 16 B to 64 KiB."""
    kept, total = collections.deque(maxlen=400), 0
    for _ in range(60000):
        kept.append(bytes(1 << source.randrange(4, 17)) if source.random() < 0.05
                    else bytes(source.randrange(1, 2000)))
        total += len(kept[0])
    return total


def handed_over(source):
    """Lists made by two threads, dropped by another."""
    seeds = [source.randrange(1 << 30) for _ in range(2)]
    pipe, sums = queue.Queue(200), []

    def make(seed):
        numbers = random.Random(seed)
        for _ in range(2000):
            pipe.put([str(numbers.random()) for _ in range(20)])
        pipe.put(None)

    makers = [threading.Thread(target=make, args=(seed,)) for seed in seeds]
    for maker in makers:
        maker.start()
    finished = 0
    while finished < len(makers):
        batch = pipe.get()
        if batch is None:
            finished += 1
        else:
            sums.append(sum(map(len, batch)))
    for maker in makers:
        maker.join()
    return len(sums), sum(sums)


def main():
    source = random.Random(20)
    for number in range(ROUNDS):
        print(number, trees(), documents(source), *words(source), windows(source),
              handed_over(source))


main()
