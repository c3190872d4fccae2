"""Speed, as ratios against peers in the same run: `make bench`. Never part of the tests."""
