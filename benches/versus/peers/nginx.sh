#!/bin/sh
# Runs nginx as a peer of the benchmark: one worker, no log, and no limit on requests per
# connection.
#
#   cargo bench --bench versus -- \
#       --peer 'nginx=sh benches/versus/peers/nginx.sh {port} {docroot} {tmp}'
set -eu
port="$1" docroot="$2" tmp="$3"
cat > "$tmp/nginx.conf" <<EOF
daemon off;
pid $tmp/nginx.pid;
error_log stderr crit;
worker_processes 1;
events { worker_connections 15000; }
http {
    access_log off;
    sendfile on;
    tcp_nodelay on;
    open_file_cache max=1000;
    keepalive_requests 1000000000;
    keepalive_timeout 300;
    server { listen 127.0.0.1:$port backlog=4096; root $docroot; }
}
EOF
exec nginx -p "$tmp" -c "$tmp/nginx.conf" -e stderr
