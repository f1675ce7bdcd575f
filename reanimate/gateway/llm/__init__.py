"""The LLM plane: OpenAI's and Anthropic's APIs in front of several providers."""
