#!/bin/sh
# What is sent, in capitals. It writes before it has read everything: what it has not read yet is
# kept for it, so that neither it nor the client waits for the other.
#
#     curl --data-binary @README.md http://127.0.0.1:8080/cgi/upper.sh

printf 'Content-Type: text/plain; charset=utf-8\n\n'
tr a-z A-Z
