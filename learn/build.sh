#!/usr/bin/env bash
# Makes www/learn/loop.wasm: `learn/build.sh`, or `learn/build.sh FILE` for another output. Needs
# the target wasm32-unknown-unknown (`rustup target add wasm32-unknown-unknown`).
#
# Run it after a change of a run, of a sentence or of a line that reports a step, and commit the
# result. `learn/replay.mjs` fails if the committed file has other runs than the program.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out="${1:-www/learn/loop.wasm}"
gzip_bytes_max=200000
export CARGO_TARGET_DIR="$PWD/target/tmp/learn"
# Paths of this machine are no part of the file.
export RUSTFLAGS="--remap-path-prefix=$PWD=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"

cargo build --locked --release --lib --target wasm32-unknown-unknown --manifest-path learn/wasm/Cargo.toml
built="$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/whirligig_learn.wasm"
if command -v wasm-opt >/dev/null; then
    wasm-opt -Oz --enable-bulk-memory --enable-nontrapping-float-to-int --enable-sign-ext --enable-mutable-globals \
        -o "$built.small" "$built"
    built="$built.small"
fi
install -m 644 "$built" "$out"
gzip_bytes="$(gzip -9 -c "$out" | wc -c)"
echo "$out: $(wc -c <"$out") bytes, $gzip_bytes with gzip"
if [ "$gzip_bytes" -gt "$gzip_bytes_max" ]; then
    echo "learn/build.sh: at most $gzip_bytes_max bytes with gzip are allowed" >&2
    exit 1
fi
# The recordings for pages from files are those of the new engine.
if [ $# -eq 0 ] && command -v node >/dev/null; then
    node learn/logs.mjs
fi
