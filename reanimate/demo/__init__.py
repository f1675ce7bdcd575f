"""The demo: a knowledge base, agents that ask and answer, and three real disasters that end well or say why not."""
