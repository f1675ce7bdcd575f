"""An answer that broke off, gone on with by another provider."""
