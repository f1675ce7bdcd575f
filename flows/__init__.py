"""What happens, in order. Flows read like recipes: the work is in the tasks, and behind those in the library."""
