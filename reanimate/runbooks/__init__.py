"""Which steps and actions a fault calls for, as data, and the closed registry of actions they may name."""
