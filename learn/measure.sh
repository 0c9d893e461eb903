#!/usr/bin/env bash
# Measures on real sockets what the chapters claim, and writes www/learn/measured.json:
# `learn/measure.sh PROGRAM [NAME..]`. PROGRAM is a release build with the examples beside it
# (`cargo build --release --bins --examples`). A NAME is a file in learn/measure without its
# extension; without a name all are measured.
#
# A measurement is a program that receives the path of PROGRAM, uses loopback and free ports only,
# ends by itself, and prints one JSON object. Needs Python 3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ $# -eq 0 ]; then
    echo "usage: learn/measure.sh PROGRAM [NAME..]" >&2
    exit 2
fi
program="$(realpath "$1")"
shift
file=www/learn/measured.json

if [ $# -eq 0 ]; then
    for script in learn/measure/*.sh learn/measure/*.py; do
        [ -e "$script" ] || continue
        name="$(basename "$script")"
        set -- "$@" "${name%.*}"
    done
fi
for name in "$@"; do
    if [ -e "learn/measure/$name.py" ]; then
        object="$(python3 "learn/measure/$name.py" "$program")"
    elif [ -e "learn/measure/$name.sh" ]; then
        object="$(bash "learn/measure/$name.sh" "$program")"
    else
        echo "learn/measure.sh: there is no learn/measure/$name.sh or .py" >&2
        exit 2
    fi
    echo "$name: $object"
    python3 - "$file" "$name" "$object" <<'PYTHON'
import json, os, sys

file, name, text = sys.argv[1:]
measured = {}
if os.path.exists(file):
    with open(file) as old:
        measured = json.load(old)["measured"]
measured[name] = json.loads(text)
with open(file, "w") as new:
    json.dump({"measured": dict(sorted(measured.items()))}, new, indent=1, ensure_ascii=False)
    new.write("\n")
PYTHON
done
