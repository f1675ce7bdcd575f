"""The two wires: what is sent, what comes back, and one told in the words of the other."""
