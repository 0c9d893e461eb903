#!/bin/sh
# What is sent, in capitals, while it is still being sent: content goes through in both directions at once.
#
#     curl --data-binary @README.md http://127.0.0.1:8080/cgi/upper.sh

printf 'Content-Type: text/plain; charset=utf-8\n\n'
tr a-z A-Z
