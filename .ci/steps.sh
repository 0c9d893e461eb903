# Shared functions of `.ci/run` and `.ci/long`, which source this file from the top of a checkout.

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
export WHIRLIGIG_REQUIRE_CHROMIUM=1
export WHIRLIGIG_REQUIRE_CLIENTS=1

script=".ci/$(basename "$0")"
current="start"
steps=0

trap 'status=$?; if [ "$status" -ne 0 ]; then
    printf "\n%s: FAILED in: %s (exit %d, after %d s)\n" "$script" "$current" "$status" "$SECONDS"
fi' EXIT

# step NAME COMMAND...: prints the command, runs it, and prints its duration.
step() {
    current="$1"
    shift
    printf '\n== %s\n   %s\n' "$current" "$*"
    local began="$SECONDS"
    "$@"
    steps=$((steps + 1))
    printf -- '-- %s: passed in %d s\n' "$current" "$((SECONDS - began))"
}

# Debian packages the modules for virtual environments separately from Python.
venv() {
    python3 -c 'import ensurepip, venv' 2>/dev/null
}

# Installs the programs that tests run. Each is listed with its Debian package.
tools() {
    local missing=() entry name
    for entry in chromium:chromium strace:strace wrk:wrk wget:wget curl:curl unzip:unzip python3:python3 pip3:python3-pip \
        ab:apache2-utils node:nodejs git:git dpkg-deb:dpkg php-cgi:php-cgi; do
        name="${entry%%:*}"
        if command -v "$name" >/dev/null; then
            continue
        fi
        # The browser also has other names.
        if [ "$name" = chromium ] && { command -v chromium-browser || command -v google-chrome; } >/dev/null; then
            continue
        fi
        missing+=("${entry##*:}")
    done
    venv || missing+=(python3-venv)
    if [ "${#missing[@]}" -eq 0 ]; then
        echo "all are installed"
        return
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing: ${missing[*]}; install them, or run this as root on a system with apt-get" >&2
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Gets axe-core, which checks the accessibility of the chapters, from the npm registry.
axe_core() {
    local version=4.14.1 sum=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
    local file="$PWD/target/tmp/axe-core-$version.min.js" folder
    if [ ! -e "$file" ]; then
        if ! command -v npm >/dev/null; then
            echo "no npm: the accessibility of the chapters is NOT CHECKED"
            return
        fi
        folder="$(mktemp -d)"
        (cd "$folder" && npm pack --silent "axe-core@$version" && tar -xzf "axe-core-$version.tgz" package/axe.min.js)
        mkdir -p target/tmp
        install -m 644 "$folder/package/axe.min.js" "$file"
        rm -r "$folder"
    fi
    echo "$sum  $file" | sha256sum --check --quiet
    export WHIRLIGIG_AXE="$file" WHIRLIGIG_REQUIRE_AXE=1
}

# Checks the scenarios and the bugs, and that the chapters have the counts of this program.
scenarios_and_bugs() {
    cargo run --locked --profile ci --bin whirligig -- zoo check
    learn/figures.sh --check target/ci/whirligig
}

# Builds protocol, loop and simulator without an operating system and runs their tests in that
# build. Builds them for WebAssembly where rustup can install that target. Crates that need an
# operating system must not occur among the dependencies.
without_os() {
    local crates
    crates="$(cargo tree --locked -e normal --prefix none --no-default-features --features sim)"
    if grep -E '^(mio|rustix|nix|libc|socket2|signal-hook) ' <<<"$crates"; then
        echo "the simulator depends on a crate of the operating system" >&2
        return 1
    fi
    cargo check --locked --lib --no-default-features
    cargo test --locked --profile ci --no-default-features --features sim --lib --test sim
    if rustup target add wasm32-unknown-unknown; then
        cargo check --locked --lib --no-default-features --features sim --target wasm32-unknown-unknown
    else
        echo "wasm32-unknown-unknown: LEFT OUT, rustup cannot install it"
    fi
}

# Builds the library with no feature, with each feature alone, and with all, and the examples
# without the optional features.
feature_builds() {
    local feature
    for feature in os auth compress markdown json session client sim bench cli; do
        cargo check --locked --lib --no-default-features --features "$feature"
    done
    cargo check --locked --lib --no-default-features --features os,json
    cargo check --locked --examples --no-default-features --features os
    cargo check --locked --all-features
}

# Checks the example that is a package of its own.
tiny_reactor() {
    (
        cd examples/tiny_reactor
        export CARGO_TARGET_DIR="$PWD/../../target/tmp/tiny_reactor"
        cargo fmt --check && cargo clippy --locked --all-targets -- -D warnings && cargo test --locked
    )
}

# Checks the package for web pages.
engine_for_pages() {
    (
        cd learn/wasm
        export CARGO_TARGET_DIR="$PWD/../../target/tmp/learn"
        cargo fmt --check && cargo clippy --locked --all-targets -- -D warnings && cargo test --locked
    )
}

# Checks the ladder: each starter fails the tests of its stage, and each solution passes those of
# all stages up to its own. Both packages below learn/ share a build of the simulator.
ladder() {
    (
        cd learn/ladder
        export CARGO_TARGET_DIR="$PWD/../../target/tmp/learn"
        # The last command is that of its README, with a test that a starter passes.
        cargo fmt --check && cargo clippy --locked --all-targets -- -D warnings && cargo test --locked --test proof &&
            cargo test --locked stage_1::the_server_outlives_its_clients
    )
}

# Compares the runs of a WebAssembly file with those of the program: same_hashes PROGRAM [FILE].
same_hashes() {
    if ! command -v node >/dev/null; then
        echo "no node: the hashes of www/learn/loop.wasm are NOT COMPARED"
        return
    fi
    node learn/replay.mjs "$1" --wasm "${2:-www/learn/loop.wasm}"
}

# Prints the last line of a run.
passed() {
    printf '\n%s: all %d steps passed in %d min %d s\n' "$script" "$steps" "$((SECONDS / 60))" "$((SECONDS % 60))"
}
