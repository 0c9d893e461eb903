#!/bin/sh
# Prints the time five times. Each line is sent as soon as it is written.
#
#     curl -N http://127.0.0.1:8080/cgi/clock.sh

printf 'Content-Type: text/plain\n'
printf 'Cache-Control: no-store\n'
printf '\n'
for _ in 1 2 3 4 5; do
    date '+%H:%M:%S'
    sleep 1
done
