#!/usr/bin/env python3
"""The environ page: the environment of a WSGI application.

The application does not use CGI itself. The standard library's CGIHandler runs it.

    whirligig --cgi /cgi=examples/cgi
    http://127.0.0.1:8080/cgi/environ.py/some/path?name=value
"""

from html import escape
from wsgiref.handlers import CGIHandler


def application(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    content = environ["wsgi.input"].read(length)
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>\n"
        for name, value in sorted(environ.items())
    )
    page = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>environ</title>
<h1>environ</h1>
<table>
{rows}</table>
<p>{length} bytes of content: <code>{escape(content.decode("utf-8", "replace"))}</code></p>
<form method="post"><input name="name" value="value"> <button>POST</button></form>
</html>
"""
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [page.encode()]


if __name__ == "__main__":
    CGIHandler().run(application)
