"""What is written down of calls: figures, records, metrics, spans."""
