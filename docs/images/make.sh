#!/usr/bin/env bash
# Makes the pictures of the README and the home page: a listing in light and in dark.
# Needs Chromium and Python.
#
#     cargo build && docs/images/make.sh [BINARY]
#
# The folder in the picture is made here with fixed times, so that a new picture differs from the
# old one only where the page does.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
pictures="$here/../../www/pictures"
binary="$(realpath "${1:-$here/../../target/debug/whirligig}")"
chromium="$(command -v chromium || command -v chromium-browser || command -v google-chrome)"
scratch="$(mktemp -d)"
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$scratch"' EXIT

site="$scratch/site"
mkdir -p "$site/drawings" "$site/photos"
head -c 48213 /dev/zero > "$site/blueprint.svg"
head -c 1843 /dev/zero > "$site/parts.csv"
head -c 7340032 /dev/zero > "$site/turning.webm"
cat > "$site/README.md" <<'TEXT'
# Workshop

Drawings and manuals of the **whirligig** on the roof.

1. Print [the blueprint](blueprint.svg).
2. Count the [parts](parts.csv) before you start.
TEXT
touch -d '2026-03-14 09:26:53 UTC' "$site"/* "$site"
touch -d '2026-05-02 18:04:11 UTC' "$site/photos" "$site/turning.webm"

"$binary" --port 0 --archives "$site" > "$scratch/out" &
server=$!
url=
for _ in $(seq 100); do
    url="$(grep -m1 '^http://' "$scratch/out" || true)"
    [ -z "$url" ] || break
    sleep 0.05
done
[ -n "$url" ] || { echo "make.sh: the server printed no URL" >&2; exit 1; }

# shot NAME SCHEME: 0 is dark, 1 is light.
shot() {
    TZ=UTC "$chromium" --headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars \
        --user-data-dir="$scratch/$1" --blink-settings="preferredColorScheme=$2" \
        --force-device-scale-factor=2 --window-size=760,580 --virtual-time-budget=4000 \
        --screenshot="$pictures/$1.png" "$url" > "$scratch/$1.log" 2>&1
    python3 "$here/palette.py" "$pictures/$1.png"
    echo "$1.png: $(stat -c %s "$pictures/$1.png") bytes"
}
shot listing-light 1
shot listing-dark 0
