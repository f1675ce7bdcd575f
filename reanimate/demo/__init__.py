"""The demo: a knowledge base, an agent that asks it questions, and two real disasters that end well or say why not."""
