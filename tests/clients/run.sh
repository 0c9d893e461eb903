#!/usr/bin/env bash
# Tests both models with common client programs: `tests/clients/run.sh [BINARY]`.
#
# Each client does what its users do: it resumes a broken download, mirrors a tree, clones a
# repository, installs a package, or seeks in a sound. The server serves a folder that site.py
# makes, on a free loopback port. Every step has a time limit. All files are in one temporary
# folder, which is removed. The configuration of the machine and its user is not read.
#
# A client that is missing is SKIPPED; with WHIRLIGIG_REQUIRE_CLIENTS=1 that is a failure.
# ONLY="git apt" runs only these clients.
set -uo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
home="$(cd "$here/../.." && pwd)"

if [ $# -gt 0 ]; then
    binary="$(realpath "$1")"
else
    (cd "$home" && cargo build --release --quiet) || exit 1
    binary="$home/target/release/whirligig"
fi

unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
for name in $(compgen -e WHIRLIGIG_); do
    [ "$name" = WHIRLIGIG_REQUIRE_CLIENTS ] || unset "$name"
done

scratch="$(mktemp -d "${TMPDIR:-/tmp}/whirligig-clients.XXXXXX")"
server=""
stop() {
    local pid="$1"
    [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null
}
trap 'stop "$server"; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

SKIP=77
# need PROGRAM...: skips the client if one of these is missing.
need() {
    local name
    for name; do
        command -v "$name" >/dev/null || { echo "no $name"; exit "$SKIP"; }
    done
}
# check WHAT COMMAND...: ends the client with an error that names WHAT if the command fails.
check() {
    local what="$1"
    shift
    "$@" || { echo "$what: failed: $*"; exit 1; }
}
# within SECONDS COMMAND...
within() {
    timeout --kill-after=5 "$@"
}
# until_logged PATTERN: waits until the access log contains a matching line.
until_logged() {
    local tries
    for ((tries = 0; tries < 400; tries++)); do
        grep -q -- "$1" "$log" && return
        sleep 0.1
    done
    return 1
}

# ---- the clients: each in a separate shell and folder, with $url and $log ----

client_curl() {
    need curl
    local curl=(curl -q --silent --show-error --fail --max-time 40)
    # A broken download: the reader exits after three million bytes. Then curl resumes it.
    "${curl[@]}" "$url/big.bin" 2>/dev/null | head -c 3000000 >big.bin
    check "a broken download" test "$(stat -c %s big.bin)" = 3000000
    check "resume" "${curl[@]}" -C - -o big.bin "$url/big.bin"
    check "the complete file" cmp big.bin "$site/big.bin"
    check "parallel" "${curl[@]}" --parallel --create-dirs -o "images/#1.png" "$url/images/[0-199].png"
    check "all images" test "$(ls images | wc -l)" = 200
    check "an upload" "${curl[@]}" -T "$site/big.bin" -o echo "$url/api/echo"
    check "the echo" cmp echo "$site/big.bin"
    check "only if newer" "${curl[@]}" -z "$site/hello.txt" -o newer -w '%{http_code}\n' "$url/hello.txt" | grep -qx 304
    check "compressed or not" "${curl[@]}" --compressed -o plain "$url/hello.txt"
    check "the text" cmp plain "$site/hello.txt"
}

client_wget() {
    need wget
    local wget=(wget --no-config --no-proxy --no-verbose --tries=2 --timeout=20)
    head -c 7000000 "$site/big.bin" >big.bin
    check "resume" within 60 "${wget[@]}" -c "$url/big.bin"
    check "the complete file" cmp big.bin "$site/big.bin"
    check "again, with nothing missing" within 60 "${wget[@]}" -c "$url/big.bin"
    check "a mirror" within 60 "${wget[@]}" -r -l inf -np -nH --restrict-file-names=nocontrol \
        --reject-regex '[?]' -R 'index.html*' "$url/tree/"
    check "the same tree" diff -r "$site/tree" tree
    touch tree/empty.txt
    check "only what is newer" within 60 "${wget[@]}" -N -nd -P tree "$url/tree/empty.txt"
}

client_requests() {
    need_python requests
    check requests within 100 "$python" "$here/with_requests.py" "$url"
}

client_aiohttp() {
    need_python aiohttp
    check aiohttp within 100 "$python" "$here/with_aiohttp.py" "$url"
}

client_undici() {
    need node
    local major
    major="$(node -p 'process.versions.node.split(".")[0]')"
    [ "$major" -ge 18 ] || { echo "node $major has no fetch"; exit "$SKIP"; }
    check undici within 100 node "$here/with_undici.mjs" "$url"
}

client_ab() {
    need ab
    check ab within 60 ab -q -k -n 5000 -c 50 "$url/hello.txt" >out 2>&1
    check "no failure" grep -Eq '^Failed requests: +0$' out
    check "one connection for many" grep -Eq '^Keep-Alive requests: +5000$' out
    check "only successful responses" test -z "$(grep 'Non-2xx' out)"
}

client_images() {
    need_browser
    browse images/ '/report.txt?images='
    check "200 images" until_logged '/report.txt?images=200 '
    check "all images from this server" test "$(grep -c 'GET /images/[0-9]*.png HTTP/1.1" 200' "$log")" -ge 200
    check "no console messages" test -z "$(grep CONSOLE browser.log)"
}

client_sound() {
    need_browser
    browse sound/ '/report.txt?sound='
    check "three seeks in 240 s of sound" until_logged '/report.txt?sound=240-3 '
    # Ranges are the beginning and each position that was not buffered. Chromium may revalidate a
    # range that it has.
    check "ranges" test "$(grep -c 'GET /sound/tone.wav HTTP/1.1" 206' "$log")" -ge 2
    check "no other status" test -z "$(grep 'GET /sound/tone.wav' "$log" | grep -Ev '" (206|304) ')"
    check "no console messages" test -z "$(grep CONSOLE browser.log)"
}

client_git() {
    need git
    export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
    local kind
    for kind in loose packed; do
        check "clone, $kind" within 60 git clone --quiet "$url/$kind.git" "$kind"
        check "fsck, $kind" git -C "$kind" fsck --strict
        check "the same commit" test "$(git -C "$kind" rev-parse HEAD)" = "$(git -C "$site/$kind.git" rev-parse HEAD)"
        check "the same files" test "$(git -C "$kind" ls-files | wc -l)" = 30
        check "fetch, $kind" within 60 git -C "$kind" fetch --quiet
    done
}

client_pip() {
    need python3
    python3 -m pip --version >/dev/null 2>&1 || { echo "no pip"; exit "$SKIP"; }
    local index
    for index in simple listed; do
        check "download from $index/" within 60 env -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 \
            python3 -m pip --isolated download --quiet --no-deps --no-cache-dir --dest "$index" \
            --index-url "$url/$index/" whirligig-tiny
        check "the wheel from $index/" cmp "$index"/*.whl "$site"/wheels/*.whl
    done
}

client_apt() {
    need apt-get dpkg-deb
    [ -e "$site/debs/Packages.gz" ] || { echo "no repository was made"; exit "$SKIP"; }
    mkdir -p state/lists/partial cache/archives/partial etc
    : >state/status
    echo "deb [trusted=yes] $url/debs/ ./" >etc/sources.list
    local apt=(apt-get -q -o "Dir::State=$PWD/state" -o "Dir::State::status=$PWD/state/status" -o "Dir::Cache=$PWD/cache"
        -o "Dir::Etc::sourcelist=$PWD/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::Log=$PWD"
        -o Acquire::Languages=none -o Acquire::http::Proxy=DIRECT -o Acquire::Retries=0 -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
        -o "APT::Sandbox::User=$(id -un)" -o APT::Get::List-Cleanup=false -o Debug::NoLocking=1)
    check update within 60 "${apt[@]}" update
    check "update, with nothing new" within 60 "${apt[@]}" update
    check "a conditional request" until_logged 'GET /debs/.*Packages[^ ]* HTTP/1.1" 304'
    # Pipelined: apt sends ten requests before it reads the first response.
    check "twelve packages" within 60 "${apt[@]}" -o Acquire::http::Pipeline-Depth=10 download whirligig-tiny-{1..12}
    local deb
    for deb in "$site"/debs/*.deb; do
        check "${deb##*/}" cmp "$deb" "${deb##*/}"
    done
}

# ---- shared functions ----

# need_python MODULE: sets $python to an interpreter with this module. Installs the module into a
# virtual environment below target/ if necessary and possible.
need_python() {
    need python3
    python=python3
    "$python" -c "import $1" 2>/dev/null && return
    python="$home/target/clients-venv/bin/python"
    "$python" -c "import $1" 2>/dev/null && return
    { python3 -m venv "$home/target/clients-venv" && within 120 "$python" -m pip install --quiet "$1"; } >venv.log 2>&1
    "$python" -c "import $1" 2>/dev/null || { echo "no $1, and pip could not install it"; exit "$SKIP"; }
}

need_browser() {
    local name
    for name in chromium chromium-browser google-chrome; do
        chromium="$(command -v "$name")" && return
    done
    echo "no chromium"
    exit "$SKIP"
}

# browse PAGE PATTERN: shows the page until the access log contains the pattern.
browse() {
    # Not through a function, because the process to stop must be this one. It leads the process group
    # of all Chromium processes.
    timeout --kill-after=5 60 "$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --no-proxy-server \
        --disable-background-networking --disable-component-update --disable-sync --enable-logging=stderr --v=0 \
        --autoplay-policy=no-user-gesture-required --remote-debugging-port=0 --user-data-dir="$PWD/profile" \
        "$url/$1" >browser.out 2>browser.log &
    local browser=$!
    until_logged "$2"
    local found=$?
    { kill -KILL -- "-$browser" && wait "$browser"; } 2>/dev/null
    [ "$found" = 0 ] || { tail -n 20 browser.log; echo "the page did not report"; exit 1; }
}

# Repositories and packages need their own tools, so this script makes them, not site.py.
repositories() {
    export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
    local work="$scratch/work" number kind
    git init --quiet --initial-branch=main "$work" || return
    git -C "$work" config user.name Someone
    git -C "$work" config user.email someone@example.org
    for ((number = 0; number < 30; number++)); do
        head -c $((number * 5000)) "$site/big.bin" >"$work/file-$number"
        git -C "$work" add . && git -C "$work" commit --quiet -m "Add file $number" || return
    done
    git -C "$work" tag -a v1 -m "One" || return
    for kind in loose packed; do
        git clone --quiet --bare "$work" "$site/$kind.git" || return
        if [ "$kind" = packed ]; then git -C "$site/$kind.git" gc --quiet || return; fi
        git -C "$site/$kind.git" update-server-info || return
    done
}

packages() {
    local number folder deb
    mkdir -p "$site/debs"
    for ((number = 1; number <= 12; number++)); do
        folder="$scratch/deb-$number"
        mkdir -p "$folder/DEBIAN" "$folder/usr/share/whirligig-tiny"
        head -c $((number * 20000)) "$site/big.bin" >"$folder/usr/share/whirligig-tiny/$number"
        printf 'Package: whirligig-tiny-%d\nVersion: 1.0\nArchitecture: all\nMaintainer: Someone <someone@example.org>\nDescription: a test\n' \
            "$number" >"$folder/DEBIAN/control"
        dpkg-deb --root-owner-group -b "$folder" "$site/debs/whirligig-tiny-${number}_1.0_all.deb" >/dev/null || return
    done
    for deb in "$site"/debs/*.deb; do
        dpkg-deb -f "$deb"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
    done >"$site/debs/Packages"
    gzip -9nk "$site/debs/Packages"
}

# start MODEL: starts a server for the site and sets $url and $log.
start() {
    log="$scratch/access-$1.log"
    "$binary" --model "$1" --port 0 --api --access-log "$log" "$site" >"$scratch/banner-$1" 2>"$scratch/err-$1" &
    server=$!
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        url="$(grep -s -m 1 -o '^http://[^ ]*[0-9]' "$scratch/banner-$1")" && return
        sleep 0.05
    done
    cat "$scratch/err-$1"
    echo "the server did not come up"
    exit 1
}

need python3
site="$scratch/site"
check "the site" python3 "$here/site.py" "$site"
if command -v git >/dev/null; then check "the repositories" repositories; fi
if command -v dpkg-deb >/dev/null; then check "the packages" packages; fi

rows=()
failed=0
for model in reactor threads; do
    start "$model"
    for client in ${ONLY:-curl wget requests aiohttp undici ab images sound git pip apt}; do
        folder="$scratch/$model-$client"
        mkdir -p "$folder"
        began="$(date +%s%N)"
        (cd "$folder" && "client_$client") >"$scratch/out" 2>&1
        status=$?
        took="$((($(date +%s%N) - began) / 1000000)) ms"
        word=passed
        if [ "$status" = "$SKIP" ] && [ "${WHIRLIGIG_REQUIRE_CLIENTS:-0}" != 1 ]; then
            word="SKIPPED: $(tail -n 1 "$scratch/out")"
        elif [ "$status" != 0 ]; then
            word=FAILED
            failed=1
            printf -- '---- %s on %s\n' "$client" "$model"
            tail -n 30 "$scratch/out"
        fi
        rows+=("$(printf '%-10s %-8s %9s  %s' "$client" "$model" "$took" "$word")")
        rm -rf "$folder"
    done
    if ! kill -0 "$server" 2>/dev/null; then
        echo "the server ($model) has ended"
        failed=1
    fi
    # Clients that leave in the middle are no server errors.
    if grep -E 'ERROR|panick' "$scratch/err-$model"; then failed=1; fi
    stop "$server"
    server=""
done

printf '\n%-10s %-8s %9s  %s\n' client model time result
printf '%s\n' "${rows[@]}"
exit "$failed"
