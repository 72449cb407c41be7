# SPDX-License-Identifier: MIT
# Imports a history, then packs, checks and reads it. Packs depend on the timing of threads, so they
# stay out of compared/.
set -eu
git init -q -b main project
cd project
git config pack.threads 2
git fast-import --quiet <../history.stream
git checkout -q main
git repack -q -a -d -f --depth=30 --window=10
git fsck --full --strict --no-progress
git log --stat -p -M main >../compared/log
git blame src/file-003.txt >../compared/blame
git grep -n -E 'b[aeiou]+d' main >../compared/grep
git rev-list --objects --all | sort >../compared/objects
git merge -q --no-edit -m merge side >../compared/merge
git diff --word-diff main~40 main >../compared/word-diff
git archive --format=tar main >../compared/archive.tar
git status --porcelain >../compared/status
git rev-parse HEAD
