"""Configuration history: every version of the files and server settings that an agent depends on."""
