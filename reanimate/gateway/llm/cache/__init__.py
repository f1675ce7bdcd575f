"""Answers given again: to the same question while they are fresh, and to anyone when nobody else answers."""
