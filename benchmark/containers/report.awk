# SPDX-License-Identifier: MIT
# Reads the CSV of containers_benchmark. Prints for each row the least time of each allocator over
# all repetitions, and the times of the peers as multiples of slabmalloc's.

BEGIN { FS = "," }

/^#/ || /^name,/ || NF < 2 { next }

{
  gsub(/"/, "")
  if ($1 ~ /_(mean|median|stddev|cv)$/) next
  split($1, part, "/")
  row = part[1] "/" part[3]
  if (!(row in seen)) {
    seen[row] = 1
    # Rows come in a random order.
    for (i = ++row_count; i > 1 && is_before(row, rows[i - 1]); --i) rows[i] = rows[i - 1]
    rows[i] = row
  }
  if (!(part[2] in known)) {
    known[part[2]] = 1
    for (i = ++peer_count; i > 1 && rank(part[2]) < rank(peers[i - 1]); --i) {
      peers[i] = peers[i - 1]
    }
    peers[i] = part[2]
  }
  if (!((row, part[2]) in best) || $NF + 0 < best[row, part[2]]) best[row, part[2]] = $NF + 0
}

# slabmalloc comes first.
function rank(peer) {
  return (peer == "slabmalloc" ? "0" : peer ~ /^slabmalloc/ ? "1" : "2") peer
}
function is_before(one, other,    a, b) {
  split(one, a, "/")
  split(other, b, "/")
  return a[1] != b[1] ? a[1] < b[1] : a[2] + 0 < b[2] + 0
}

# The peers' times as multiples of slabmalloc's, for rows that begin with `kind`.
function means(kind, label,    i, j, sum, count) {
  printf "%-24s", label
  for (j = 1; j <= peer_count; ++j) {
    sum = count = 0
    for (i = 1; i <= row_count; ++i) {
      if (index(rows[i], kind) == 1) {
        sum += log(best[rows[i], peers[j]] / best[rows[i], "slabmalloc"])
        ++count
      }
    }
    printf " %14.2f", exp(sum / count)
  }
  printf "\n"
}

END {
  print "ns for each element that comes and goes, the least of all repetitions."
  printf "%-24s", ""
  for (j = 1; j <= peer_count; ++j) printf " %14s", peers[j]
  printf "\n"
  for (i = 1; i <= row_count; ++i) {
    printf "%-24s", rows[i]
    for (j = 1; j <= peer_count; ++j) printf " %14.2f", best[rows[i], peers[j]]
    printf "\n"
  }
  print "\nMultiples of slabmalloc's time, geometric means over the rows of a container."
  means("list_", "list")
  means("map_", "map")
  means("unordered_map_", "unordered_map")
}
