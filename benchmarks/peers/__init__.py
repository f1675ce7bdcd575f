"""What a user would otherwise take, written as they would write it."""
