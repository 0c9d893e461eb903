#!/usr/bin/env python3
"""A page from plain Python: headers, an empty line, and the body.

    http://127.0.0.1:8080/cgi/hello.py?name=Anna
"""

import os
from html import escape
from urllib.parse import parse_qs

query = parse_qs(os.environ["QUERY_STRING"])
name = query.get("name", ["world"])[0]

print("Content-Type: text/html; charset=utf-8")
print()
print("<!doctype html>")
print("<title>hello</title>")
print(f"<h1>Hello, {escape(name)}!</h1>")
