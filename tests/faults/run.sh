#!/usr/bin/env bash
# Checks that the tests find planted faults. Each patch next to this script plants one fault in
# src/. The script applies each patch to a copy of this tree and builds the copy. A test must then
# fail.
#
#     tests/faults/run.sh [NAME...]     all faults, or only these (names without `.patch`)
#     tests/faults/run.sh --by-turns N  N of them, different ones for each commit
#
# The unchanged copy must pass. Every patch must apply and compile, because a compile error does
# not count as a caught fault. A patch may only change src/, but not src/sim/. Each line `# tests:
# ARGUMENTS` above a patch contains the arguments of one run of `cargo test`. Without such a line
# the simulator runs. Builds go to the folder `faults` in the target folder, so that nothing else
# is rebuilt. That folder starts as a copy of the existing build, because the dependencies are
# equal.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

built="${CARGO_TARGET_DIR:-$PWD/target}"
export CARGO_TARGET_DIR="$built/faults"
if [ ! -e "$CARGO_TARGET_DIR" ] && [ -d "$built/debug/deps" ]; then
    mkdir -p "$CARGO_TARGET_DIR/debug"
    cp -a "$built/debug/"{deps,build,.fingerprint} "$CARGO_TARGET_DIR/debug/"
    # The package itself is built again, because tests contain the path of their program.
    rm -rf "$CARGO_TARGET_DIR/debug/.fingerprint/whirligig-"*
fi
export CARGO_TERM_COLOR=never
export RUST_BACKTRACE=0
export WHIRLIGIG_SIM_SEEDS="${WHIRLIGIG_SIM_SEEDS:-300}"
unset WHIRLIGIG_SIM_SEED

# Limits of a run, because a faulty server may hang, spin or use up memory.
BUILD_MAX_S=600
RUN_MAX_S=120
RUN_MAX_KIB=$((8 * 1024 * 1024))

DEFAULT_TESTS="--test sim"

faults="$PWD/tests/faults"
scratch="$(mktemp -d)"
tree="$scratch/tree"
output="$scratch/output"

# Build artefacts depend on the path of the copy, which no later run uses.
clean_up() {
    if [ -d "$tree" ]; then
        (cd "$tree" && cargo clean --quiet --package whirligig) || true
    fi
    rm -rf "$scratch"
}
trap clean_up EXIT

die() {
    printf 'tests/faults/run.sh: %s\n' "$*" >&2
    exit 1
}

# tests_of PATCH: prints its test runs, one line per `cargo test`.
tests_of() {
    local named
    named="$(sed -n '/^--- /q; s/^# tests: *//p' "$1")"
    if [ -n "$named" ]; then
        printf '%s\n' "$named"
    else
        printf '%s\n' "$DEFAULT_TESTS"
    fi
}

# flaw_of PATCH: prints why the patch is invalid, if it is.
flaw_of() {
    local touched
    if ! head -n 1 "$1" | grep -q '^[A-Z]'; then
        echo "does not begin with a description of the fault"
        return
    fi
    touched="$(sed -n 's/^\(---\|+++\) [ab]\///p' "$1" | cut -f 1)"
    if [ -z "$touched" ] || grep -qv '^src/' <<<"$touched" || grep -q '^src/sim/' <<<"$touched"; then
        echo "must change only src/, and not src/sim/"
    fi
}

# apply PATCH [OPTION...]: applies it to the copy. Without fuzz, so lines may have moved, but not
# changed.
apply() {
    local patch="$1"
    shift
    patch --directory="$tree" -p1 --batch --fuzz=0 --no-backup-if-mismatch "$@" <"$patch" >"$output" 2>&1
}

# in_copy SECONDS COMMAND...: runs it in the copy with a time limit and writes its output to
# $output.
in_copy() {
    local seconds="$1"
    shift
    (cd "$tree" && exec timeout --kill-after=10 "$seconds" "$@") >"$output" 2>&1
}

# build LINE, run LINE: builds or runs the tests of a line, split at its spaces.
build() {
    local words
    read -ra words <<<"$1"
    in_copy "$BUILD_MAX_S" cargo test --locked --quiet --no-run "${words[@]}"
}

run() {
    local words
    read -ra words <<<"$1"
    (
        ulimit -v "$RUN_MAX_KIB"
        in_copy "$RUN_MAX_S" cargo test --locked "${words[@]}"
    )
}

# run_on_program LINE: builds only the program of the copy, and runs the tests of the unchanged
# copy on it. Most tests of the target `it` start the program, and building them again takes as
# long as everything else. A pass proves nothing, because some of these tests call the library.
# Returns 0 if the line names another target, or if the program does not compile.
run_on_program() {
    local words
    read -ra words <<<"$1"
    if [ "${words[*]:0:2}" != "--test it" ] || [ ! -x "$it" ]; then return 0; fi
    words=("${words[@]:2}")
    if [ "${words[0]:-}" = -- ]; then words=("${words[@]:1}"); fi
    in_copy "$BUILD_MAX_S" cargo build --locked --quiet --bin whirligig || return 0
    (
        ulimit -v "$RUN_MAX_KIB"
        in_copy "$RUN_MAX_S" "$it" "${words[@]}"
    )
}

# said STATUS: prints the reason of a failed run: the first seed of the simulator, or the first
# failed test with its panic.
said() {
    local status="$1" seed test panic
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        echo "a run that did not end in $RUN_MAX_S s"
        return
    fi
    seed="$(grep -m 1 '^seed [0-9]*: ' "$output" || true)"
    test="$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$output" | sed -n 1p)"
    panic="$(sed -n '/panicked at/{n;p;q}' "$output")"
    if [ -n "$seed" ]; then
        echo "simulator, $seed"
    elif [ -n "$test" ]; then
        echo "$test: $panic"
    elif grep -q "process didn't exit successfully" "$output"; then
        echo "a test run that died: $panic"
    fi
}

# try PATCH: prints a verdict and the test that caught the fault.
try() {
    local patch="$1" flaw line status by
    flaw="$(flaw_of "$patch")"
    if [ -n "$flaw" ]; then
        printf 'BROKEN\t%s\n' "$flaw"
        return
    fi
    if ! apply "$patch" --dry-run --forward; then
        printf 'BROKEN\tdoes not apply: %s\n' "$(grep -m 1 -i 'fail\|ignor\|malformed\|only garbage' "$output" || true)"
        return
    fi
    apply "$patch" --forward
    local verdict=$'MISSED\t-'
    while read -r line; do
        status=0
        run_on_program "$line" || status=$?
        by="$(said "$status")"
        if [ "$status" -ne 0 ] && [ -n "$by" ]; then
            verdict=$'CAUGHT\t'"$by"
            break
        fi
        if ! build "$line"; then
            verdict=$'BROKEN\tdoes not compile: '"$(grep -m 1 '^error' "$output" || true)"
            break
        fi
        status=0
        run "$line" || status=$?
        if [ "$status" -ne 0 ]; then
            by="$(said "$status")"
            verdict=$'CAUGHT\t'"$by"
            if [ -z "$by" ]; then
                verdict=$'BROKEN\tcargo test '"$line could not run: $(tail -n 1 "$output")"
            fi
            break
        fi
    done < <(tests_of "$patch")
    apply "$patch" --reverse
    printf '%s\n' "$verdict"
}

command -v patch >/dev/null || die "the program patch is missing"

patches=()
if [ "$#" -eq 0 ]; then
    patches=("$faults"/*.patch)
elif [ "$1" = --by-turns ]; then
    count="${2:-}"
    [[ "$count" =~ ^[1-9][0-9]*$ ]] || die "--by-turns needs a number"
    all=("$faults"/*.patch)
    first=$(($(git rev-list --count HEAD) * count))
    for ((turn = first; turn < first + count && turn < first + ${#all[@]}; turn++)); do
        patches+=("${all[turn % ${#all[@]}]}")
    done
    set --
fi
# All patches must apply, even those that do not run, so that a commit that moves code updates
# them.
for patch in "$faults"/*.patch; do
    patch --directory="$PWD" -p1 --batch --fuzz=0 --dry-run --forward <"$patch" >"$output" 2>&1 ||
        die "$(basename "$patch") does not apply: $(grep -m 1 -i 'fail\|ignor\|malformed' "$output" || true)"
done
for name in "$@"; do
    [ -e "$faults/$name.patch" ] || die "there is no fault $name"
    patches+=("$faults/$name.patch")
done

# Includes new files that are not ignored, but no deleted files.
mkdir "$tree"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
done | tar --create --null --files-from=- | tar --extract --directory="$tree"

began="$SECONDS"
while read -r line; do
    build "$line" || { cat "$output" >&2; die "the copy without a fault does not compile ($line)"; }
    run "$line" || { cat "$output" >&2; die "the copy without a fault fails: cargo test $line"; }
    # A filter without a matching test would catch nothing.
    grep -q '^test .* \.\.\. ok$' "$output" || die "cargo test $line runs no test"
done < <(for patch in "${patches[@]}"; do tests_of "$patch"; done | sort -u)
# The tests of the unchanged copy, for run_on_program.
it="$scratch/it"
if grep -q '^# tests: *--test it' "${patches[@]}"; then
    cp "$(cd "$tree" && cargo test --locked --no-run --test it 2>&1 | sed -n 's/.*(\(.*\))$/\1/p')" "$it"
fi
printf '%-26s passes in %d s\n' "(no fault)" "$((SECONDS - began))"

caught=0
for patch in "${patches[@]}"; do
    before="$SECONDS"
    IFS=$'\t' read -r verdict by < <(try "$patch")
    printf '%-26s %s  by %s (%d s)\n' "$(basename "$patch" .patch)" "$verdict" "${by:0:160}" "$((SECONDS - before))"
    if [ "$verdict" = CAUGHT ]; then caught=$((caught + 1)); fi
done

printf '%d of %d planted faults were caught in %d s\n' "$caught" "${#patches[@]}" "$((SECONDS - began))"
[ "$caught" -eq "${#patches[@]}" ]
