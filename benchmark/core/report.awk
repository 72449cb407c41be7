# SPDX-License-Identifier: MIT
# Reads the CSV of core_benchmark and core_layout. Prints minima over the repetitions, ratios and
# targets.

BEGIN { FS = "," }

/^#/ || /^name,/ || NF < 2 { next }

$1 ~ /^layout\// {
  split($1, part, "/")
  slots[part[2], part[3]] = $2
  usable[part[2], part[3]] = $3
  if (part[2] == 2097152 && part[3] >= 32 && part[3] <= 4096 &&
      (worst == "" || $3 < usable[2097152, worst])) {
    worst = part[3]
  }
  next
}

$9 != "" {
  print "failed: " $1 ": " $10 > "/dev/stderr"
  failed = 1
  next
}

{
  gsub(/"/, "")
  name = $1
  sub(/\/manual_time$/, "", name)
  if (name ~ /_(mean|median|stddev|cv)$/) next
  time = name ~ /^pair\// ? $4 : $NF
  if (!(name in best) || time + 0 < best[name]) best[name] = time + 0
}

function row(label, ours, theirs, ratio, target, holds) {
  printf "%-44s %10s %10s %8s  %-9s %s\n", label, ours, theirs, ratio, target, holds
}
function verdict(holds) {
  ++targets
  if (holds) ++held
  return holds ? "yes" : "NO"
}
function compared(label, kind, tail, target,    ours, theirs) {
  ours = best[kind "/core/" tail]
  theirs = best[kind "/glibc/" tail]
  if (theirs == 0) return
  row(label, sprintf("%.2f", ours), sprintf("%.2f", theirs), sprintf("%.2f", ours / theirs),
      "<= " target, verdict(ours / theirs <= target))
}
function flat(kind, label,    objects, low, high, time) {
  for (objects = 1000; objects <= 10000000; objects *= 10) {
    time = best[kind "/" objects]
    row(label ", " objects " objects", sprintf("%.2f", time), "", "", "", "")
    if (low == "" || time < low) low = time
    if (time > high) high = time
  }
  row(label ": most / least", "", "", sprintf("%.2f", high / low), "<= 1.3", verdict(high / low <= 1.3))
}

END {
  if (failed) exit 1
  print "Times are ns for each pair or object, the least of all repetitions."
  row("", "slabmalloc", "glibc", "ratio", "target", "holds")
  count = split("8 16 64 256 512 1024 4096", sizes, " ")
  for (i = 1; i <= count; ++i) compared("allocate and deallocate, " sizes[i] " B", "pair", sizes[i], 0.40)
  split("64 512 4096", sizes, " ")
  for (i = 1; i <= 3; ++i) {
    time = best["fill/" sizes[i]]
    row("first fill of a page, " sizes[i] " B", sprintf("%.2f", time), "", "", "<= 3 ns", verdict(time <= 3))
  }
  flat("grow", "allocate")
  flat("shrink", "free")
  compared("random free of half, allocate again, 64 B", "half", "64", 0.70)
  compared("random free of half, allocate again, mixed", "half", "mixed", 0.70)
  compared("random free of one, allocate again, 64 B", "one", "64", 0.70)
  compared("random free of one, allocate again, mixed", "one", "mixed", 0.70)
  row("slots of 64 B in 4 KiB", slots[4096, 64], "", "", ">= 63", verdict(slots[4096, 64] >= 63))
  # A slot has two bits: 3.1 % of 8 B and 1.6 % of 16 B. Therefore these sizes live on base pages.
  size = usable[2097152, worst] * 100
  row("2 MiB pages usable, 32 B to 4 KiB: " worst " B", sprintf("%.2f %%", size), "", "", ">= 99 %",
      verdict(size >= 99))
  printf "%d of %d targets hold.\n", held, targets
}
