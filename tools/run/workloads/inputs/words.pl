# SPDX-License-Identifier: MIT
# Strings, hashes and nested structures; prints the same on every run.
use strict;
use warnings;

my $state = 42;
sub next_number {
    $state = ($state * 1103515245 + 12345) % 2147483648;
    return int($state / 65536) % $_[0];
}

sub word {
    return join '', map { chr(ord('a') + next_number(12)) } 0 .. next_number(6);
}

my @lines = map { join ' ', map { word() } 1 .. 5 + next_number(12) } 1 .. 25000;

my (%count, %followers, %by_length);
for my $line (@lines) {
    my @words = split / /, $line;
    $count{$_}++ for @words;
    $followers{$words[$_]}{$words[$_ + 1]}++ for 0 .. $#words - 1;
    push @{$by_length{length $line}}, $line;
}

my @common = (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 9];
for my $word (@common) {
    my $next = $followers{$word};
    my @best = (sort { $next->{$b} <=> $next->{$a} || $a cmp $b } keys %$next)[0 .. 4];
    printf "%-8s %6d  %s\n", $word, $count{$word}, join ' ', map { "$_:$next->{$_}" } @best;
}
printf "length %3d: %d lines, first %s\n", $_, scalar @{$by_length{$_}}, $by_length{$_}[0]
    for (sort { $a <=> $b } keys %by_length)[0 .. 9];

my ($bytes, $changes) = (0, 0);
for my $round (1 .. 3) {
    for my $line (@lines) {
        my $copy = $line;
        $changes += $copy =~ s/([aeiou])([^aeiou ]+)/$2 . uc($1) . ('-' x length $2)/ge;
        $bytes += length $copy;
        $line = lc substr $copy, 0, 120 if $round % 2;
    }
    printf "round %d: %d changes, %d bytes\n", $round, $changes, $bytes;
}
print join(' ', (sort { $a cmp $b } keys %followers)[0 .. 20]), "\n";
