#!/usr/bin/env perl
# A form with its submitted values. A GET shows the form. The response to a POST is a redirect, so
# that reloading the page does not send the form again.
#
#     http://127.0.0.1:8080/cgi/form.pl

use strict;
use warnings;

sub decoded {
    my ($text) = @_;
    $text =~ tr/+/ /;
    $text =~ s/%([0-9A-Fa-f]{2})/chr(hex($1))/ge;
    return $text;
}

sub escaped {
    my ($text) = @_;
    my %entities = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;');
    $text =~ s/([&<>"])/$entities{$1}/g;
    return $text;
}

if ($ENV{REQUEST_METHOD} eq 'POST') {
    read(STDIN, my $content, $ENV{CONTENT_LENGTH} || 0);
    # The input is untrusted, and a line break would start another header of the response.
    $content =~ s/[^\x21-\x7e]//g;
    print "Status: 303 See Other\n";
    print "Location: $ENV{SCRIPT_NAME}?$content\n\n";
    exit;
}

print "Content-Type: text/html; charset=utf-8\n\n";
print "<!doctype html>\n<title>form</title>\n<ul>\n";
for my $pair (split /[&;]/, $ENV{QUERY_STRING}) {
    my ($name, $value) = map { escaped(decoded($_)) } split(/=/, $pair, 2), '';
    print "<li>$name: $value</li>\n";
}
print "</ul>\n<form method=\"post\"><input name=\"name\"> <button>Send</button></form>\n";
