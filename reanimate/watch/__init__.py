"""The watch: a process that probes every dependency by itself, and raises and resolves alerts through the intake.

It needs neither the record nor the orchestrator, and it judges before it speaks: minimum samples, hysteresis,
and an honest word when it is the watch itself that has lost the network.
"""
