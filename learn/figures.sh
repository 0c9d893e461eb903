#!/usr/bin/env bash
# Makes www/learn/figures.json, the numbers of seeds in the text of the chapters:
# `learn/figures.sh [PROGRAM]`. `learn/figures.sh --check [PROGRAM]` changes nothing and fails if
# the file differs from the runs of the program.
#
# Takes half a minute on two processors. Needs Python 3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

is_check=
if [ "${1:-}" = --check ]; then
    is_check=1
    shift
fi
program="${1:-target/release/whirligig}"
file=www/learn/figures.json

new="$(mktemp)"
trap 'rm -f "$new"' EXIT
"$program" zoo run all --json | python3 -c '
import json, sys

zoo = {}
for line in sys.stdin:
    bug = json.loads(line)
    zoo["seeds"] = bug["seeds"]
    zoo["scenarios"] = len(bug["scenarios"])
    zoo[bug["bug"]] = {**bug["scenarios"], "simulator": bug["simulator"]}
zoo["bugs"] = len(zoo) - 2
print(json.dumps({"zoo": zoo}, indent=1, ensure_ascii=False))
' >"$new"

if [ -z "$is_check" ]; then
    install -m 644 "$new" "$file"
    echo "wrote $file"
elif diff "$file" "$new"; then
    echo "$file has the counts of this program"
else
    echo "learn/figures.sh: $file is old; run learn/figures.sh and correct the chapters" >&2
    exit 1
fi
