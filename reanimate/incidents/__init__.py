"""What we make of alerts: faults, severity, the four phases and their steps, the timeline, the postmortem."""
