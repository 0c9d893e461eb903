#!/bin/sh
# Returns the request body in capitals. The script writes before it has read everything. The
# server stores the unread part, so that script and client do not block each other.
#
#     curl --data-binary @README.md http://127.0.0.1:8080/cgi/upper.sh

printf 'Content-Type: text/plain; charset=utf-8\n\n'
tr a-z A-Z
