"""Degrading by itself: rules over the gateway's own figures, each with a hold of its own."""
