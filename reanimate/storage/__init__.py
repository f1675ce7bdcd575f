"""Storage: files into object stores and back, packed and hashed on the way. What a backup is, is no matter here."""
