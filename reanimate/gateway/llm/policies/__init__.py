"""Who may come in, and how calls are answered on bad days: switches, queues and rules."""
